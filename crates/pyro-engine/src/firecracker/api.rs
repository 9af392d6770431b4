//! A typed client of Firecracker's API (HTTP over a unix socket): the calls that pyro makes, no more.
//!
//! The wire types are those of `swagger/firecracker.yaml` of the supported releases. Published clients
//! either start and place the process themselves, which is what pyro's jail is for, or were generated
//! from old releases; over hyper, which is here anyway, these calls are little.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::{EngineError, Result};

/// How long an order may take. The longest writes a machine's memory to a file.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer that is read.
const ANSWER_MAX: usize = 64 * 1024;

/// `PUT /boot-source`
#[derive(Debug, Serialize)]
pub(super) struct BootSource<'a> {
    pub(super) kernel_image_path: &'a str,
    pub(super) initrd_path: &'a str,
    pub(super) boot_args: &'a str,
}

/// `PUT /machine-config`
#[derive(Debug, Serialize)]
pub(super) struct MachineConfig {
    pub(super) vcpu_count: u8,
    pub(super) mem_size_mib: u32,
}

/// `PUT /drives/{drive_id}`
#[derive(Debug, Serialize)]
pub(super) struct Drive<'a> {
    pub(super) drive_id: &'a str,
    pub(super) path_on_host: &'a str,
    pub(super) is_root_device: bool,
    pub(super) is_read_only: bool,
    pub(super) cache_type: CacheType,
}

/// What a guest's flush means.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum CacheType {
    /// Nothing: for disks that are only read.
    Unsafe,
    /// fsync(2).
    Writeback,
}

/// `PATCH /drives/{drive_id}`
#[derive(Debug, Serialize)]
struct DriveUpdate<'a> {
    drive_id: &'a str,
    path_on_host: &'a str,
}

/// `PUT /vsock`
#[derive(Debug, Serialize)]
pub(super) struct Vsock<'a> {
    pub(super) guest_cid: u32,
    pub(super) uds_path: &'a str,
}

/// `PUT /balloon`
#[derive(Debug, Serialize)]
pub(super) struct Balloon {
    pub(super) amount_mib: u32,
    pub(super) deflate_on_oom: bool,
    pub(super) free_page_reporting: bool,
}

#[derive(Debug, Serialize)]
struct Entropy {}

#[derive(Debug, Serialize)]
struct Action {
    action_type: &'static str,
}

#[derive(Debug, Serialize)]
struct Vm {
    state: &'static str,
}

/// `PUT /snapshot/create`
#[derive(Debug, Serialize)]
struct SnapshotCreate<'a> {
    snapshot_type: Snapshot,
    snapshot_path: &'a str,
    mem_file_path: &'a str,
}

/// `PUT /snapshot/load`
#[derive(Debug, Serialize)]
struct SnapshotLoad<'a> {
    snapshot_path: &'a str,
    mem_backend: MemBackend<'a>,
    resume_vm: bool,
    track_dirty_pages: bool,
}

/// Which pages a snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Snapshot {
    /// Those that are not as they were when the machine began, or since the last snapshot of one that
    /// was restored; in a sparse file.
    Diff,
    /// All of them.
    Full,
}

#[derive(Debug, Serialize)]
struct MemBackend<'a> {
    backend_type: &'static str,
    backend_path: &'a str,
}

#[derive(Debug, Deserialize)]
struct VersionAnswer {
    firecracker_version: String,
}

#[derive(Debug, Deserialize)]
struct Fault {
    fault_message: String,
}

/// One connection to one Firecracker, kept open for its life: whoever has taken the process over
/// later cannot have it lead elsewhere. Clones share it; orders are carried out one after the other.
#[derive(Clone)]
pub(super) struct Api(Arc<Mutex<SendRequest<Full<Bytes>>>>);

impl Api {
    pub(super) async fn over(stream: UnixStream) -> Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| refused("connect", &error))?;
        // It ends with the process, or when the last clone is gone.
        tokio::spawn(connection);
        Ok(Self(Arc::new(Mutex::new(sender))))
    }

    /// Its version, as in `1.15.1`.
    pub(super) async fn version(&self) -> Result<String> {
        let answer = self.send("version", Method::GET, "/version", Bytes::new()).await?;
        let answer: VersionAnswer =
            serde_json::from_slice(&answer).map_err(|error| refused("version", &error))?;
        Ok(answer.firecracker_version)
    }

    pub(super) async fn boot_source(&self, boot: &BootSource<'_>) -> Result<()> {
        self.put("boot-source", "/boot-source", boot).await
    }

    pub(super) async fn machine_config(&self, config: &MachineConfig) -> Result<()> {
        self.put("machine-config", "/machine-config", config).await
    }

    pub(super) async fn drive(&self, drive: &Drive<'_>) -> Result<()> {
        self.put("drives", &format!("/drives/{}", drive.drive_id), drive).await
    }

    /// Gives a drive of a machine, running or held still, another file.
    pub(super) async fn change_drive(&self, drive_id: &str, path_on_host: &str) -> Result<()> {
        let update = DriveUpdate { drive_id, path_on_host };
        self.order("drives", Method::PATCH, &format!("/drives/{drive_id}"), &update).await
    }

    pub(super) async fn vsock(&self, vsock: &Vsock<'_>) -> Result<()> {
        self.put("vsock", "/vsock", vsock).await
    }

    pub(super) async fn entropy(&self) -> Result<()> {
        self.put("entropy", "/entropy", &Entropy {}).await
    }

    pub(super) async fn balloon(&self, balloon: &Balloon) -> Result<()> {
        self.put("balloon", "/balloon", balloon).await
    }

    pub(super) async fn start(&self) -> Result<()> {
        self.put("start", "/actions", &Action { action_type: "InstanceStart" }).await
    }

    pub(super) async fn pause(&self) -> Result<()> {
        self.order("pause", Method::PATCH, "/vm", &Vm { state: "Paused" }).await
    }

    pub(super) async fn resume(&self) -> Result<()> {
        self.order("resume", Method::PATCH, "/vm", &Vm { state: "Resumed" }).await
    }

    /// Writes a machine that is held still to two files: its devices, and its memory. Of a machine that
    /// was booted `Full` would write every page that was never touched too.
    pub(super) async fn create_snapshot(
        &self,
        snapshot_type: Snapshot,
        state: &str,
        memory: &str,
    ) -> Result<()> {
        let files = SnapshotCreate { snapshot_type, snapshot_path: state, mem_file_path: memory };
        self.put("snapshot", "/snapshot/create", &files).await
    }

    /// Brings a machine back, held still, its memory mapped privately from the file.
    pub(super) async fn load_snapshot(&self, state: &str, memory: &str) -> Result<()> {
        let files = SnapshotLoad {
            snapshot_path: state,
            mem_backend: MemBackend { backend_type: "File", backend_path: memory },
            resume_vm: false,
            // What has changed is what the next snapshot writes. Writing to a page of a private map
            // for the first time is noticed anyway.
            track_dirty_pages: true,
        };
        self.put("restore", "/snapshot/load", &files).await
    }

    async fn put(&self, order: &'static str, path: &str, body: &impl Serialize) -> Result<()> {
        self.order(order, Method::PUT, path, body).await
    }

    async fn order(
        &self,
        order: &'static str,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<()> {
        let body = serde_json::to_vec(body).map_err(|error| refused(order, &error))?;
        self.send(order, method, path, body.into()).await.map(drop)
    }

    async fn send(
        &self,
        order: &'static str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| refused(order, &error))?;
        let exchange = async {
            let mut sender = self.0.lock().await;
            sender.ready().await.map_err(|error| refused(order, &error))?;
            let answer = sender.send_request(request).await.map_err(|e| refused(order, &e))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|error| refused(order, &error))?.to_bytes();
            Ok::<_, EngineError>((status, body))
        };
        let (status, body) = tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| {
            EngineError::Order { order, said: format!("no answer within {} s", PATIENCE.as_secs()) }
        })??;
        if status.is_success() {
            return Ok(body);
        }
        let said = match serde_json::from_slice::<Fault>(&body) {
            Ok(fault) => fault.fault_message,
            Err(_) => status.to_string(),
        };
        Err(EngineError::Order { order, said })
    }
}

fn refused(order: &'static str, error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Order { order, said: error.to_string() }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A client, and the other side, which has this to say to whatever it is asked.
    async fn answered(answer: &'static str) -> (Api, tokio::task::JoinHandle<String>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let heard = tokio::spawn(async move {
            let mut heard = vec![0; 4096];
            let length = theirs.read(&mut heard).await.unwrap();
            theirs.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&heard[..length]).into_owned()
        });
        (Api::over(ours).await.unwrap(), heard)
    }

    #[tokio::test]
    async fn an_order_is_one_request_with_its_fields() {
        let (api, heard) = answered("HTTP/1.1 204 \r\n\r\n").await;
        api.change_drive("baseline", "baseline").await.unwrap();
        let heard = heard.await.unwrap();
        assert!(heard.starts_with("PATCH /drives/baseline HTTP/1.1\r\n"), "{heard}");
        assert!(heard.ends_with(r#"{"drive_id":"baseline","path_on_host":"baseline"}"#), "{heard}");
    }

    #[tokio::test]
    async fn a_refusal_is_given_in_firecrackers_words() {
        let fault = "HTTP/1.1 400 \r\nContent-Length: 29\r\n\r\n{\"fault_message\":\"no such vm\"}";
        let fault = fault.replace("29", "30").leak();
        let (api, _heard) = answered(fault).await;
        let error = api.pause().await.unwrap_err();
        assert!(
            matches!(&error, EngineError::Order { order: "pause", said } if said == "no such vm"),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn an_answer_that_never_ends_is_not_read_to_its_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let head = "HTTP/1.1 200 \r\nContent-Length: 99999999\r\n\r\n";
            let _ = theirs.write_all(head.as_bytes()).await;
            while theirs.write_all(&[b' '; 4096]).await.is_ok() {}
        });
        let api = Api::over(ours).await.unwrap();
        assert!(matches!(api.version().await, Err(EngineError::Order { .. })));
    }
}
