//! The whole pipeline in one process, for a machine with nothing installed. In reading order:

pub mod pipeline;
pub mod settings;
pub mod signing_key;
