//! Every message that an agent can send: whatever the bytes, decoding them ends, and what was
//! decoded is encoded and decoded to the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use pyro_wire::v1;

fn check<M: Message + Default + PartialEq>(bytes: &Bytes) {
    if let Ok(message) = M::decode(bytes.clone()) {
        let again = M::decode(message.encode_to_vec().as_slice());
        assert!(again.is_ok_and(|again| again == message));
    }
}

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    check::<v1::ExecOutput>(&bytes);
    check::<v1::ExecInput>(&bytes);
    check::<v1::AdoptReply>(&bytes);
    check::<v1::FileChunk>(&bytes);
    check::<v1::FreezeReply>(&bytes);
});
