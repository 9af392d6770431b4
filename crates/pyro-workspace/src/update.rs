//! What an update makes of a workspace's record.

use jiff::Timestamp;
use pyro_contract::journal::EventKind;
use pyro_contract::update::Changes;

use crate::record::Record;

/// Makes the changes, and says which they were.
pub(crate) fn apply(changes: &Changes, record: &mut Record) -> EventKind {
    if let Some(name) = &changes.name {
        record.name = Some(name.clone());
    }
    if changes.clear_name {
        record.name = None;
    }
    for key in &changes.clear_labels {
        record.labels.remove(key);
    }
    record.labels.extend(changes.labels.clone());
    if changes.clear_ttl {
        record.ttl_seconds = None;
    }
    if let Some(seconds) = changes.ttl_seconds {
        record.ttl_seconds = Some(seconds);
    }
    EventKind::Updated { fields: changes.fields() }
}

/// When a time to live that begins now is up.
pub(crate) fn stops_at(ttl_seconds: Option<u64>) -> Option<Timestamp> {
    let span = jiff::SignedDuration::from_secs(i64::try_from(ttl_seconds?).ok()?);
    Timestamp::now().checked_add(span).ok()
}
