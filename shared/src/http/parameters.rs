//! What callers write, for the API descriptions of both services: as much as a schema can say of what the code checks.
#![expect(dead_code, reason = "descriptions: nothing is ever made of these types")]

use utoipa::ToSchema;

/// A username or userid in any script; not only white space, no control characters.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 256,
    pattern = r"^[^\u0000-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F][^\u0000-\u001F\u007F-\u009F]*$"
)]
pub struct Name(String);

/// The opaque `next_cursor` of the page before.
#[derive(ToSchema)]
#[schema(min_length = 34, max_length = 34, pattern = "^[A-Za-z0-9_-]{34}$")]
pub struct Cursor(String);

/// `wait=SECONDS`, 0 to 30; other preferences are ignored.
#[derive(ToSchema)]
#[schema(pattern = r"^(wait=([12]?[0-9]|30)|(?!.*[wW][aA][iI][tT]).*)$", example = "wait=5")]
pub struct PreferWait(String);
