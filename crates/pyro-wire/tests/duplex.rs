//! Both sides over a byte stream in memory.
#![allow(clippy::unwrap_used)]

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use pyro_wire::v1::agent_server::Agent;
use pyro_wire::v1::exec_output::Output;
use pyro_wire::v1::{
    AdoptReply, AdoptRequest, DirectoryEntries, ExecInput, ExecOutput, FileChunk, FileStat,
    FreezeReply, FreezeRequest, HoldReply, HoldRequest, ListDirectoryRequest, PingReply,
    PingRequest, ReadFileRequest, SetClockReply, SetClockRequest, ShutdownReply, ShutdownRequest,
    StatFileRequest, TreeChange, TreeChanged, WriteFileInput, WriteFileReply,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers as the agent would, from nothing: exec sends chunks without end and counts them, freeze
/// tells when its call was dropped.
#[derive(Clone, Default)]
struct Fake {
    sent: watch::Sender<usize>,
    thawed: watch::Sender<bool>,
}

struct Held(watch::Sender<bool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

#[tonic::async_trait]
impl Agent for Fake {
    async fn set_clock(
        &self,
        _: Request<SetClockRequest>,
    ) -> Result<Response<SetClockReply>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingReply>, Status> {
        Ok(Response::new(PingReply {}))
    }

    async fn adopt(&self, request: Request<AdoptRequest>) -> Result<Response<AdoptReply>, Status> {
        let entropy_bytes = request.into_inner().entropy.len() as u32;
        Ok(Response::new(AdoptReply { entropy_bytes, ..AdoptReply::default() }))
    }

    type ExecStream = Replies<ExecOutput>;

    async fn exec(
        &self,
        _: Request<Streaming<ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let (replies, stream) = mpsc::channel(1);
        let sent = self.sent.clone();
        tokio::spawn(async move {
            let output = Some(Output::Stdout(vec![b'x'; pyro_wire::CHUNK].into()));
            while replies.send(Ok(ExecOutput { output: output.clone() })).await.is_ok() {
                sent.send_modify(|count| *count += 1);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    type FreezeStream = Replies<FreezeReply>;

    async fn freeze(
        &self,
        _: Request<FreezeRequest>,
    ) -> Result<Response<Self::FreezeStream>, Status> {
        let held = Held(self.thawed.clone());
        let once = tokio_stream::once(Ok(FreezeReply {}));
        let silence = tokio_stream::pending().map(move |never| {
            let _ = &held;
            never
        });
        Ok(Response::new(Box::pin(once.chain(silence))))
    }

    type HoldStream = Replies<HoldReply>;

    async fn hold(&self, _: Request<HoldRequest>) -> Result<Response<Self::HoldStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    type ReadFileStream = Replies<FileChunk>;

    async fn read_file(
        &self,
        _: Request<ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let data = vec![0; pyro_wire::MAX_MESSAGE_SIZE + 1].into();
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(FileChunk {
            data,
            ..FileChunk::default()
        })))))
    }

    type CompareTreeStream =
        Pin<Box<dyn Stream<Item = Result<pyro_wire::v1::CompareOutput, Status>> + Send>>;

    async fn compare_tree(
        &self,
        _: Request<Streaming<pyro_wire::v1::CompareInput>>,
    ) -> Result<Response<Self::CompareTreeStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn stat_file(&self, _: Request<StatFileRequest>) -> Result<Response<FileStat>, Status> {
        Err(Status::unimplemented(""))
    }

    type ListDirectoryStream = Replies<DirectoryEntries>;

    async fn list_directory(
        &self,
        _: Request<ListDirectoryRequest>,
    ) -> Result<Response<Self::ListDirectoryStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn change_tree(
        &self,
        _: Request<Streaming<TreeChange>>,
    ) -> Result<Response<TreeChanged>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn write_file(
        &self,
        request: Request<Streaming<WriteFileInput>>,
    ) -> Result<Response<WriteFileReply>, Status> {
        let mut input = request.into_inner();
        while input.message().await?.is_some() {}
        Ok(Response::new(WriteFileReply { bytes: 0 }))
    }

    async fn shutdown(
        &self,
        _: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownReply>, Status> {
        Ok(Response::new(ShutdownReply {}))
    }
}

type Client = pyro_wire::v1::agent_client::AgentClient<tonic::transport::Channel>;

fn connect(fake: &Fake) -> (Client, tokio::task::JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let served = pyro_wire::serve(far, fake.clone());
    let served = tokio::spawn(async move {
        let _ = served.await;
    });
    (pyro_wire::agent(near), served)
}

fn adoption(bytes: usize) -> AdoptRequest {
    AdoptRequest { entropy: vec![1; bytes].into(), ..AdoptRequest::default() }
}

#[tokio::test]
async fn a_call_travels_there_and_back() {
    let (mut client, _) = connect(&Fake::default());
    let reply = client.adopt(adoption(32)).await.unwrap().into_inner();
    assert_eq!(reply.entropy_bytes, 32);
}

#[tokio::test]
async fn stalled_readers_hold_up_their_senders_and_nobody_else() {
    let fake = Fake::default();
    let (mut client, _) = connect(&fake);
    // Many enough to exhaust any connection window that were smaller than all of theirs.
    let mut stalled = Vec::new();
    for _ in 0..100 {
        stalled.push(client.exec(tokio_stream::pending()).await.unwrap());
    }
    // Until nothing moves any more, or by far too much has.
    let most_each = pyro_wire::STREAM_WINDOW as usize / pyro_wire::CHUNK + 8;
    let mut sent = fake.sent.subscribe();
    while tokio::time::timeout(Duration::from_millis(300), sent.changed()).await.is_ok() {
        assert!(*sent.borrow_and_update() <= 100 * most_each);
    }
    assert!(*sent.borrow() >= 100, "every one got something");
    let reply = tokio::time::timeout(Duration::from_secs(5), client.adopt(adoption(32))).await;
    assert!(reply.unwrap().is_ok());
}

#[tokio::test]
async fn a_dropped_call_is_dropped_on_the_other_side() {
    let fake = Fake::default();
    let (mut client, _) = connect(&fake);
    let mut freeze = client.freeze(FreezeRequest {}).await.unwrap().into_inner();
    freeze.message().await.unwrap().unwrap();
    assert!(!*fake.thawed.borrow());
    drop(freeze);
    let mut thawed = fake.thawed.subscribe();
    let patience = Duration::from_secs(5);
    tokio::time::timeout(patience, thawed.wait_for(|thawed| *thawed)).await.unwrap().unwrap();
}

#[tokio::test]
async fn all_calls_end_with_the_stream_and_no_other_is_made() {
    let fake = Fake::default();
    let (mut client, served) = connect(&fake);
    let mut freeze = client.freeze(FreezeRequest {}).await.unwrap().into_inner();
    freeze.message().await.unwrap().unwrap();
    served.abort();
    assert!(freeze.message().await.is_err());
    for _ in 0..2 {
        let error = client.adopt(adoption(32)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    }
    let mut thawed = fake.thawed.subscribe();
    let patience = Duration::from_secs(5);
    tokio::time::timeout(patience, thawed.wait_for(|thawed| *thawed)).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_server_ends_when_its_client_goes() {
    let (client, served) = connect(&Fake::default());
    let mut calling = client.clone();
    calling.adopt(adoption(32)).await.unwrap();
    drop((client, calling));
    tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap();
}

#[tokio::test]
async fn oversized_messages_are_refused_in_both_directions() {
    let (mut client, _) = connect(&Fake::default());
    assert!(client.adopt(adoption(pyro_wire::MAX_MESSAGE_SIZE)).await.is_err());
    let mut stream = client.read_file(ReadFileRequest::default()).await.unwrap().into_inner();
    assert!(stream.message().await.is_err());
    // One bad call does not end the others.
    assert!(client.adopt(adoption(32)).await.is_ok());
}

/// What a hostile agent might say instead of HTTP/2.
#[tokio::test]
async fn garbage_ends_the_stream_with_an_error() {
    use tokio::io::AsyncWriteExt;
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let mut client = pyro_wire::agent(near);
    far.write_all(&[0xff; 4096]).await.unwrap();
    let call = tokio::time::timeout(Duration::from_secs(5), client.adopt(adoption(32))).await;
    assert!(call.unwrap().is_err());
}
