//! Soon.
use super::{row::Row, world::World};
use crate::Result;
pub async fn measure(_: &mut World) -> Result<Vec<Row>> { Ok(Vec::new()) }
