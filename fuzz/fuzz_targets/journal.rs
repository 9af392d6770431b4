//! What is read back from the journal's files, which a user may have damaged, and the tokens that
//! callers give back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyro_contract::command::Continuation;
use pyro_contract::journal::Event;
use pyro_contract::name::WorkspaceId;

fuzz_target!(|data: &[u8]| {
    pyro_workspace::fuzzing::unpack_block(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let id: WorkspaceId = "ws-aaaaaaaaaa".parse().unwrap();
        if let Ok(place) = Continuation::parse(text, &id) {
            assert_eq!(Continuation::parse(&place.token(&id), &id).unwrap(), place);
        }
        if let Ok(event) = serde_json_event(text) {
            assert!(!event.kind.as_str().is_empty());
        }
    }
});

fn serde_json_event(text: &str) -> Result<Event, ()> {
    pyro_workspace::fuzzing::parse_event(text).ok_or(())
}
