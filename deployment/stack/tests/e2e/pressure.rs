//! Callers who make the services hold as much as they can, at the default settings: the memory of both stays below what their
//! pods may have, and buying goes on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::kafka::InProcessBroker;
use shared::testing::{DEADLINE, HttpClient, eventually, peak_rss_bytes};
use stack::load::{LoadPlan, Pace};
use stack::ports::free_port;
use stack::service::{Program, Service, ServicePlan};
use stack::{Load, RunFolder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MIB: usize = 1024 * 1024;

/// Both services as pods run them, on the in-process broker and SQLite.
struct Pods {
    web: Service,
    management: Service,
    operations: String,
    http: HttpClient,
    _broker: InProcessBroker,
    _folder: RunFolder,
}

impl Pods {
    async fn start() -> Self {
        let folder = RunFolder::new("pressure").expect("a folder");
        let broker = InProcessBroker::start(1).expect("a broker");
        for topic in ["purchases", "purchases.dead-letter"] {
            broker.create_topic(topic, 4).expect("a topic");
        }
        let plan = |program, name| {
            let plan = ServicePlan::new(program, name).expect("a free port");
            plan.with("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers())
                .with("KAFKA_CREATE_TOPICS", "false")
                .with("DRAIN_DELAY_MS", 0)
        };
        let database = folder.path().join("purchases.db");
        let management = plan(Program::ManagementApi, "management-api")
            .with("DATABASE_URL", format!("sqlite:{}", database.display()))
            .with("KAFKA_FETCH_WAIT_MS", 5)
            .with("RECORD_LANES", 1);
        let management = Service::start(folder.path(), management).expect("the binary is built");
        let operations = format!("127.0.0.1:{}", free_port().expect("a free port"));
        let web = plan(Program::WebServer, "web-server")
            .with("CUSTOMER_MGMT_API_URL", management.base_url())
            .with("OPERATIONS_LISTEN_ADDRESS", &operations);
        let web = Service::start(folder.path(), web).expect("the binary is built");
        let http = HttpClient::default();
        let mut pods = Self { web, management, operations, http, _broker: broker, _folder: folder };
        pods.web.wait_ready(DEADLINE).await.expect("web-server becomes ready");
        pods.management.wait_ready(DEADLINE).await.expect("management-api becomes ready");
        pods
    }

    /// A user with so many purchases that the list of them is 687 kB.
    async fn record_a_long_list(&self) {
        let item = format!(r#"{{"username":"{}","userid":"collector","price":1}}"#, "é".repeat(256));
        let batch = format!("[{}]", vec![item; 500].join(","));
        for _ in 0..2 {
            let answer = self.http.post_json(&format!("{}/buy/batch", self.web.base_url()), batch.clone()).await;
            assert_eq!(answer.status, 202);
        }
        eventually("the list is long", async || {
            let answer = self.http.get(&format!("{}/getAllUserBuys/collector", self.web.base_url())).await;
            (answer.json()["count"] == 1000).then_some(())
        })
        .await;
    }

    /// Waits until the requests that nobody is to wait for have their answers.
    async fn settle(&self) {
        for metrics in
            [format!("http://{}/metrics", self.operations), format!("{}/metrics", self.management.base_url())]
        {
            eventually("answers are made", async || {
                let in_flight = self.http.get(&metrics).await.metric("http_requests_in_flight");
                (in_flight? < 20.0).then_some(())
            })
            .await;
        }
    }

    /// What an attack must not do.
    async fn check(&self, attack: &str, load: &Load) {
        let progress = load.progress();
        let before = progress.acknowledged();
        eventually(&format!("buying goes on: {attack}"), async || {
            (progress.acknowledged() > before + 20).then_some(())
        })
        .await;
        let asked = Instant::now();
        let metrics = self.http.get(&format!("http://{}/metrics", self.operations)).await;
        assert!(asked.elapsed() < Duration::from_secs(5), "operations answer: {attack}");
        assert!(metrics.metric("http_memory_bytes") <= metrics.metric("http_memory_max_bytes"));
        for (service, folder) in [(&self.web, "customer-web-server"), (&self.management, "customer-management-api")] {
            let (most, limit) = (most_memory(service) + kernel_memory(service), memory_limit(folder));
            eprintln!("{attack}: {folder} {} MiB, {} in the kernel", most / MIB, kernel_memory(service) / MIB);
            assert!(most < limit, "{attack}: {folder} had {} MiB, its pod's limit is {}", most / MIB, limit / MIB);
        }
    }
}

/// The most memory that a service has had since its start.
fn most_memory(service: &Service) -> usize {
    let pid = service.process_id().expect("it runs").pid;
    peak_rss_bytes(pid).expect("the kernel tells")
}

/// What the kernel holds for a service's callers now, both ways. It counts against the pod's limit too.
fn kernel_memory(service: &Service) -> usize {
    let port = format!(":{:04X}", service.plan().address.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let queues = table.lines().filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let queues = columns.next().filter(|local| local.ends_with(&port)).and(columns.nth(2))?;
        let (sending, receiving) = queues.split_once(':')?;
        Some(usize::from_str_radix(sending, 16).ok()? + usize::from_str_radix(receiving, 16).ok()?)
    });
    queues.sum()
}

/// The memory limit in a service's Deployment.
fn memory_limit(folder: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("deployment.yaml");
    let text = fs::read_to_string(path).expect("the Deployment");
    let limits = text.split("limits:").nth(1).expect("limits");
    let memory = limits.split("memory:").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a limit");
    memory.trim_end_matches("Mi").parse::<usize>().expect("MiB") * MIB
}

/// Opens connections that send `bytes` (as far as the service takes them) and read nothing while they are held.
async fn crowd(address: &str, count: usize, bytes: impl Fn(usize) -> Vec<u8>) -> Vec<TcpStream> {
    let callers = (0..count).map(|number| {
        let bytes = bytes(number);
        async move {
            let mut stream = TcpStream::connect(address).await.ok()?;
            let sending = tokio::time::timeout(Duration::from_secs(4), stream.write_all(&bytes));
            let _ = sending.await;
            Some(stream)
        }
    });
    join_all(callers).await.into_iter().flatten().collect()
}

fn head(length: usize) -> String {
    format!("POST /buy/batch HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
}

/// One purchase in 8 MiB: 932,000 names that nobody knows, but for a few.
fn many_names() -> Vec<u8> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut body = br#"[{"username":"n","userid":"u","price":1"#.to_vec();
    for number in 0..931_990 {
        body.extend_from_slice(b",\"");
        body.extend([46_656, 1296, 36, 1].map(|place| DIGITS[number / place % 36]));
        body.extend_from_slice(b"\":1");
    }
    body.extend_from_slice(b"}]");
    [head(body.len()).into_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_make_the_services_hold_stays_within_their_pods_memory() {
    // Where so many files may not be opened, the test says so itself. The services inherit it.
    let process = std::process::id().to_string();
    let _ = Command::new("prlimit").args(["--pid", &process, "--nofile=16384:"]).status();
    let mut pods = Pods::start().await;
    pods.record_a_long_list().await;
    let (web, management) = (pods.web.address(), pods.management.address());
    let load = Load::start(LoadPlan { pace: Pace::PerSecond(50.0), ..LoadPlan::new(vec![web.clone()], 8) });

    let list = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").into_bytes();
    let unread = crowd(&web, 400, |_| list("/getAllUserBuys/collector?timeout=10000")).await;
    pods.settle().await;
    pods.check("400 lists that nobody reads", &load).await;
    let unread_there = crowd(&management, 400, |_| list("/users/collector/purchases")).await;
    pods.settle().await;
    pods.check("400 more at management-api", &load).await;
    drop((unread, unread_there));

    let items = format!("[{}]", vec!["{}"; 500].join(","));
    let batch = format!("{}{items}", head(items.len()));
    let unread = crowd(&web, 1500, |_| batch.clone().into_bytes()).await;
    pods.settle().await;
    pods.check("1,500 batches of errors that nobody reads", &load).await;

    let body = vec![b' '; 8 * MIB - 1];
    let bodies = crowd(&web, 32, |_| [head(8 * MIB).as_bytes(), &body].concat()).await;
    pods.check("32 bodies without their last byte", &load).await;
    drop((unread, bodies));

    let request = many_names();
    let mut batches = crowd(&web, 4, |_| request.clone()).await;
    let statuses = join_all(batches.iter_mut().map(async |batch| {
        let mut status = [0; 12];
        let read = tokio::time::timeout(DEADLINE, batch.read_exact(&mut status));
        read.await.expect("in time").expect("an answer");
        String::from_utf8_lossy(&status[9..]).into_owned()
    }))
    .await;
    assert!(statuses.iter().all(|status| status == "202" || status == "503"), "{statuses:?}");
    pods.check("four batches of 932,000 unknown names", &load).await;

    let slow_head = format!("GET /livez HTTP/1.1\r\nx: {}", "y".repeat(64 * 1024));
    let heads =
        crowd(&web, 4000, |number| slow_head.as_bytes()[..if number % 2 == 0 { 15_000 } else { 65_536 }].into()).await;
    pods.check("4,000 heads without an end", &load).await;
    drop(heads);

    let idle = crowd(&web, 10_000, |_| Vec::new()).await;
    assert_eq!(idle.len(), 10_000);
    let heads = crowd(&pods.operations, 300, |_| b"GET /livez HTTP/1.1\r\nx: ".to_vec()).await;
    pods.check("10,000 connections that idle, and 300 heads without an end at the operations port", &load).await;
    assert_eq!(pods.http.get(&format!("http://{}/livez", pods.operations)).await.status, 200);
    drop((idle, heads));

    let report = load.stop().await;
    let (all, accepted) = (report.statuses.values().sum::<u64>(), report.statuses.get(&202).copied().unwrap_or(0));
    assert!(accepted * 10 > all * 9, "buyers were told {:?}, failures {:?}", report.statuses, report.failures);
    let _unread = crowd(&web, 20, |_| list("/getAllUserBuys/collector")).await;
    let ending = Instant::now();
    pods.web.sigterm();
    let code = pods.web.wait_exit(DEADLINE).await.expect("it ends");
    assert_eq!(code, Some(0), "callers who read nothing are no failure");
    assert!(ending.elapsed() < Duration::from_secs(10), "nor do they hold up the end: {:?}", ending.elapsed());
}
