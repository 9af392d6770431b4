//! What the fuzz targets reach of this crate's insides. Not there in an ordinary build.

use pyro_contract::journal::Event;

/// Unpacks what may be a block of output.
pub fn unpack_block(bytes: &[u8]) {
    crate::journal::unpack_block(bytes);
}

/// Reads what may be an event.
#[must_use]
pub fn parse_event(text: &str) -> Option<Event> {
    serde_json::from_str(text).ok()
}
