//! Boots real machines, from the environments of the store that `PYRO_TEST_HOME` names; without it
//! the tests say so and pass.
#![allow(clippy::unwrap_used)]

mod lab;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pyro_engine::qemu::QemuEngine;
use pyro_engine::{Engine, EngineError, Exit, MachineSpec};
use pyro_wire::v1::exec_output::Output;
use pyro_wire::v1::{
    ExecStart, FreezeRequest, ReadFileRequest, WriteFileInput, WriteFileStart, write_file_input,
};
use tokio_stream::StreamExt;

use lab::{Lab, adoption, assert_clean, names, output, run, say, shut_down, start};

#[tokio::test]
async fn a_machine_boots_runs_commands_and_keeps_what_they_wrote() {
    let Some(lab) = Lab::new() else { return };
    let (machine, mut client) = lab.boot().await;
    let begun = Instant::now();
    output(&mut client, "true").await;
    eprintln!("first exec {:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..20 {
        let argv = vec![b"true".to_vec().into()];
        run(&mut client, ExecStart { argv, ..start("") }).await;
    }
    eprintln!("exec true {:?}", begun.elapsed() / 20);

    assert_eq!(
        output(&mut client, "pwd; id -u; hostname; echo $HOME $LANG").await,
        "/workspace\n0\ndemo\n/root C.UTF-8\n"
    );
    assert_eq!(output(&mut client, "cat README.md").await, "hello\n");
    assert_eq!(output(&mut client, "cat /etc/machine-id").await.len(), 33);
    let mounts = output(&mut client, "cat /proc/self/mounts; ls /dev /mnt /").await;
    for hidden in ["erofs", "ext4", "vda", "vport"] {
        assert!(!mounts.contains(hidden), "{mounts}");
    }
    output(&mut client, "unshare --user --map-root-user true").await;
    output(&mut client, "ip link show lo | grep -q UP").await;

    output(&mut client, "echo changed >> README.md; rm -r dir; mkdir dir; echo machine > /etc/new")
        .await;
    shut_down(&mut client, &*machine).await;
    assert_clean(&lab.path("disk"));

    let storage = QemuEngine::default().open_storage(&lab.path("disk")).unwrap();
    assert_eq!(names(&*storage.workspace), ["README.md", "dir"]);
    assert_eq!(names(&*storage.machine), ["etc"]);
    let dir = storage.workspace.lookup(storage.workspace.root(), b"dir").unwrap().unwrap();
    assert!(storage.workspace.is_opaque(dir).unwrap());

    let (machine, mut client) = lab.boot().await;
    assert_eq!(
        output(&mut client, "cat README.md /etc/new; ls dir").await,
        "hello\nchanged\nmachine\n"
    );
    shut_down(&mut client, &*machine).await;
}

#[tokio::test]
async fn commands_end_as_asked() {
    let Some(lab) = Lab::new() else { return };
    let (machine, mut client) = lab.boot().await;
    let exit = run(&mut client, start("exit 7")).await.exit;
    assert_eq!((exit.code, exit.signal), (7, 0));
    let exit = run(&mut client, start("kill -9 $$")).await.exit;
    assert_eq!((exit.code, exit.signal), (0, 9));

    // A timeout takes the whole tree, sessions of its own included.
    let tree = ExecStart { timeout_ms: 500, ..start("setsid sleep 4242 & sleep 4242") };
    let exit = run(&mut client, tree).await.exit;
    assert!(exit.timed_out && exit.signal == 9 && exit.duration_ms < 3000, "{exit:?}");
    assert_eq!(output(&mut client, "pgrep -f '[s]leep 4242' || true").await, "");

    // A daemon outlives the command that started it, and keeps no one waiting.
    let begun = Instant::now();
    output(&mut client, "(while echo tick; do sleep 0.1; done) & echo started").await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(500)).await;
    output(&mut client, "pgrep -f '[w]hile echo tick'").await;

    // A dropped call takes its command along.
    let mut stream = client.exec(say(start("sleep 4343 & wait"))).await.unwrap().into_inner();
    stream.message().await.unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(output(&mut client, "pgrep -f '[s]leep 4343' || true").await, "");

    // Memory that runs out is told.
    let hog = start(r#"python3 -c 'x = [b"x" * (n << 10) for n in range(1, 99999)]'"#);
    let exit = run(&mut client, hog).await.exit;
    assert!(exit.oom_killed, "{exit:?}");

    let nobody = ExecStart { user: "nobody".into(), ..start("id -un; id -gn; echo $HOME") };
    let ran = run(&mut client, nobody).await;
    assert_eq!(ran.stdout, "nobody\nnogroup\n/nonexistent\n");
    shut_down(&mut client, &*machine).await;
}

#[tokio::test]
async fn a_frozen_disk_is_still_and_consistent() {
    let Some(lab) = Lab::new() else { return };
    let (machine, mut client) = lab.boot().await;
    output(&mut client, "(i=0; while i=$((i+1)); do echo $i > f$i; done) > /dev/null 2>&1 &").await;
    let mut freeze = client.freeze(FreezeRequest {}).await.unwrap().into_inner();
    freeze.message().await.unwrap().unwrap();
    assert_clean(&lab.path("disk"));
    // Whoever writes is held up, with the locks it holds, and so may be who looks where it writes;
    // but not the agent, nor who looks elsewhere.
    let inside = ExecStart { cwd: b"/workspace/dir".to_vec().into(), ..start("ls ..") };
    let mut inside = client.exec(say(inside)).await.unwrap().into_inner();
    for _ in 0..3 {
        let elsewhere = ExecStart { cwd: b"/".to_vec().into(), ..start("cat /etc/hostname") };
        assert_eq!(run(&mut client, elsewhere).await.stdout, "demo\n");
    }
    let disk = || std::fs::read(lab.path("disk")).unwrap();
    let before = disk();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(disk() == before, "something was written");
    let storage = QemuEngine::default().open_storage(&lab.path("disk")).unwrap();
    let before = names(&*storage.workspace).len();
    drop(freeze);
    tokio::time::sleep(Duration::from_millis(500)).await;
    while inside.message().await.unwrap().is_some() {}
    let after = output(&mut client, "ls /workspace | wc -l").await;
    assert!(after.trim().parse::<usize>().unwrap() > before);
    // Frozen or not, it goes down cleanly.
    let mut freeze = client.freeze(FreezeRequest {}).await.unwrap().into_inner();
    freeze.message().await.unwrap().unwrap();
    shut_down(&mut client, &*machine).await;
    assert_clean(&lab.path("disk"));
}

#[tokio::test]
async fn files_travel_whole() {
    let Some(lab) = Lab::new() else { return };
    let (machine, mut client) = lab.boot().await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let begin = WriteFileStart {
        path: b"/workspace/a/b".to_vec().into(),
        mode: 0o750,
        create_parents: true,
    };
    let mut inputs = vec![write_file_input::Input::Start(begin)];
    inputs.extend(
        content.chunks(pyro_wire::CHUNK).map(|c| write_file_input::Input::Data(c.to_vec().into())),
    );
    let inputs = tokio_stream::iter(inputs).map(|input| WriteFileInput { input: Some(input) });
    let begun = Instant::now();
    let reply = client.write_file(inputs).await.unwrap().into_inner();
    eprintln!("write 3 MB {:?}", begun.elapsed());
    assert_eq!(reply.bytes, 3_000_000);
    assert_eq!(output(&mut client, "stat -c %a:%s a/b; ls -A a").await, "750:3000000\nb\n");
    let request = ReadFileRequest {
        path: b"/workspace/a/b".to_vec().into(),
        offset: 1_000_000,
        length: 1_500_000,
        ..ReadFileRequest::default()
    };
    let begun = Instant::now();
    let mut stream = client.read_file(request).await.unwrap().into_inner();
    let mut read = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        read.extend_from_slice(&chunk.data);
    }
    eprintln!("read 1.5 MB {:?}", begun.elapsed());
    assert!(read == content[1_000_000..2_500_000]);
    shut_down(&mut client, &*machine).await;
}

#[tokio::test]
async fn a_stalled_reader_stalls_its_command_and_nobody_else() {
    let Some(lab) = Lab::new() else { return };
    let (machine, mut client) = lab.boot().await;
    let mib: usize = std::env::var("PYRO_TEST_OUTPUT_MIB").map_or(64, |mib| mib.parse().unwrap());
    let script = format!("yes | head -c {mib}M");
    let mut stalled = client.exec(say(start(&script))).await.unwrap().into_inner();
    stalled.message().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    output(&mut client, "true").await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    let begun = Instant::now();
    let mut total = 0;
    while let Some(message) = stalled.message().await.unwrap() {
        if let Some(Output::Stdout(bytes)) = message.output {
            total += bytes.len();
        }
    }
    eprintln!("{} MB/s", total as f64 / begun.elapsed().as_secs_f64() / 1e6);
    assert_eq!(total, mib << 20);
    let guest = output(&mut client, "grep -E 'VmHWM|VmRSS' /proc/1/status").await;
    let host = std::fs::read_to_string("/proc/self/status").unwrap();
    let host = host.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned();
    eprintln!("peak memory: here {host}, agent {guest}");
    shut_down(&mut client, &*machine).await;
}

#[tokio::test]
async fn a_machine_that_dies_says_why() {
    let Some(mut lab) = Lab::new() else { return };
    let (machine, mut client) = lab.boot().await;
    machine.kill(Duration::from_secs(2)).await;
    assert!(matches!(machine.exited().await, Exit::Died(_)));
    assert!(client.adopt(adoption()).await.is_err());

    // A baseline that is none: the machine cannot be adopted.
    std::fs::write(lab.path("baseline"), vec![0; 4096]).unwrap();
    let machine = QemuEngine::default().launch(&lab.spec).await.unwrap();
    machine.insert_baseline(&lab.path("baseline")).await.unwrap();
    let mut client = pyro_wire::agent(machine.connect().await.unwrap());
    let refused = client.adopt(adoption()).await.unwrap_err();
    assert!(refused.message().contains("cannot mount the disk \"base\""), "{refused}");
    machine.kill(Duration::from_secs(2)).await;

    // A disk that is none: the guest cannot come up, and its console tells.
    let disk = lab.path("no disk");
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let spec = MachineSpec { storage: disk, ..lab.spec.clone() };
    let machine = QemuEngine::default().launch(&spec).await.unwrap();
    let Exit::Died(said) = machine.exited().await else { panic!("it powered off") };
    assert!(said.contains("pyro-guest: fatal: cannot mount the disk \"rw\""), "{said}");

    // A QEMU that refuses to start tells at once.
    lab.spec.image.kernel = lab.path("seed/README.md");
    let begun = Instant::now();
    let refused = QemuEngine::default().launch(&lab.spec).await.err().unwrap();
    eprintln!("refused after {:?}: {refused:?}", begun.elapsed());
    assert!(matches!(refused, EngineError::Launch { said } if said.contains("kernel")));
    assert!(begun.elapsed() < Duration::from_millis(500));
}

#[tokio::test]
async fn the_smallest_machine_and_a_wider_one_boot() {
    let Some(mut lab) = Lab::new() else { return };
    std::fs::remove_file(lab.path("disk")).unwrap();
    QemuEngine::default().create_storage(&lab.path("disk"), 64, &lab.path("derived")).unwrap();
    lab.spec.mem_mib = 128;
    let (machine, mut client) = lab.boot().await;
    eprintln!("{}", output(&mut client, "free -m; df -h /workspace").await);
    shut_down(&mut client, &*machine).await;
    lab.spec.mem_mib = 512;
    lab.spec.vcpu_count = 2;
    let (machine, mut client) = lab.boot().await;
    assert_eq!(output(&mut client, "nproc").await, "2\n");
    shut_down(&mut client, &*machine).await;
}

#[tokio::test]
async fn a_full_disk_is_the_commands_problem_and_not_the_agents() {
    let Some(lab) = Lab::new() else { return };
    let (machine, mut client) = lab.boot().await;
    let exit = run(&mut client, start("head -c 600M /dev/zero > big")).await.exit;
    assert_ne!(exit.code, 0);
    output(&mut client, "rm big; sync; echo fits > small").await;
    shut_down(&mut client, &*machine).await;
    assert_clean(&lab.path("disk"));
    // What was deleted was given back.
    let taken = std::os::unix::fs::MetadataExt::blocks(&lab.path("disk").metadata().unwrap()) * 512;
    eprintln!("{taken} bytes taken");
    assert!(taken < 64 << 20, "{taken}");
}

/// Root alone can run the machine as somebody else.
#[tokio::test]
async fn a_machine_runs_as_a_user_of_its_own_who_can_reach_no_path() {
    let Some(mut lab) = Lab::new() else { return };
    if std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap()
        != 0
    {
        eprintln!("SKIPPED: only root can run a machine as another user");
        return;
    }
    lab.spec.run_as = Some(987_654);
    let (machine, mut client) = lab.boot().await;
    let (pid, _) = machine.process().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
    };
    assert_eq!(line("Uid:").split_whitespace().next(), Some("987654"));
    assert_eq!(line("CapEff:"), "0000000000000000");
    assert_eq!(line("CapBnd:"), "0000000000000000");
    assert_eq!(line("NoNewPrivs:"), "1");
    assert_eq!(line("Seccomp:"), "2");
    let own = |name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    for name in ["net", "mnt", "ipc", "uts"] {
        assert_ne!(own(name), std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap());
    }
    let root = |path: &str| std::fs::read_dir(format!("/proc/{pid}/root/{path}")).unwrap().count();
    assert_eq!(root("proc"), 1, "it sees no other process");
    assert!(!Path::new(&format!("/proc/{pid}/root/etc/passwd")).exists());
    output(&mut client, "echo x > file").await;
    shut_down(&mut client, &*machine).await;
}

/// Not a test: the process that the next one kills.
#[tokio::test]
#[ignore = "run by machines_die_with_their_supervisor"]
async fn supervisor_to_be_killed() {
    let Some(lab) = Lab::new() else { return };
    let machine = QemuEngine::default().launch(&lab.spec).await.unwrap();
    println!("machine {}", machine.process().unwrap().0);
    machine.exited().await;
}

#[tokio::test]
async fn machines_die_with_their_supervisor() {
    use std::io::{BufRead, BufReader};
    let Some(lab) = Lab::new() else { return };
    let mut supervisor = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "supervisor_to_be_killed"])
        // Killed, it leaves its files behind; here they go with this test's own.
        .env("TMPDIR", lab.path("run"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
    // The test harness writes the name of the test first, without ending the line.
    let pid = lines
        .map(Result::unwrap)
        .find_map(|line| line.split_once("machine ").map(|(_, pid)| pid.to_owned()))
        .unwrap();
    let program = PathBuf::from(format!("/proc/{pid}/exe"));
    assert!(std::fs::read_link(&program).is_ok());
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let begun = Instant::now();
    // The link dangles once the process has ended, collected or not.
    while std::fs::read_link(&program).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(5), "{pid} lives on");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    eprintln!("machine gone after {:?}", begun.elapsed());
}
