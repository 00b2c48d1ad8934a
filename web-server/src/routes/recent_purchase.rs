//! A cookie by which a buyer's next reads go around what any replica has kept for others: they show the purchase.

use http::{HeaderMap, HeaderValue, header};

use crate::state::App;

/// For as long as a replica itself remembers its buyers.
const COOKIE: &str = "recent_purchase=1; Max-Age=30; Path=/; HttpOnly; SameSite=Lax";

/// Whether a reader wants nothing that was kept: it says so, or has bought.
pub fn wants_fresh(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split([',', ';'])).any(|part| part.trim().eq_ignore_ascii_case(wanted))
    };
    has(header::CACHE_CONTROL, "no-cache") || has(header::COOKIE, "recent_purchase=1")
}

/// Marks the answer to a purchase, where reads are kept at all.
pub fn mark(app: &App, headers: &mut HeaderMap) {
    if app.read_cache.is_on() {
        headers.append(header::SET_COOKIE, HeaderValue::from_static(COOKIE));
    }
}
