//! Whatever bytes come out of a machine's stream instead of HTTP/2 and gRPC: a call over it ends, and
//! the host side neither panics nor hangs. The first bytes are those of an honest beginning, so that
//! some of what follows is listened to.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pyro_wire::v1::{ExecInput, ExecStart, exec_input};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Empty settings, and the acknowledgement of the host's.
const HONEST: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
/// `:status 200` and the content type of gRPC, on the stream of the first call.
const ANSWERS: &[u8] =
    b"\x00\x00\x15\x01\x04\x00\x00\x00\x01\x88\x5f\x10application/grpc\x40";

fuzz_target!(|data: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lie: Vec<u8> = match data.first() {
        Some(0..=85) => data.to_vec(),
        Some(86..=170) => [HONEST, &data[1..]].concat(),
        _ => [HONEST, &ANSWERS[..29], data.get(1..).unwrap_or_default()].concat(),
    };
    runtime.block_on(async move {
        let (ours, mut theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(async move {
            let _ = theirs.write_all(&lie).await;
            let _ = theirs.shutdown().await;
            let mut heard = [0; 4096];
            while theirs.read(&mut heard).await.is_ok_and(|count| count > 0) {}
        });
        let mut agent = pyro_wire::agent(ours);
        let start = ExecStart { argv: vec!["true".into()], ..ExecStart::default() };
        let first = ExecInput { input: Some(exec_input::Input::Start(start)) };
        let called = async {
            let answered = agent.exec(tokio_stream::once(first)).await;
            if let Ok(reply) = answered {
                let mut output = reply.into_inner();
                while let Ok(Some(_)) = output.message().await {}
            }
        };
        // The stream is closed, so it has to end by itself.
        let ended = tokio::time::timeout(Duration::from_secs(10), called).await;
        assert!(ended.is_ok(), "a call over a stream that has ended did not end");
    });
});
