//! Dead letters as a broken producer makes them: very many, and all alike.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use shared::testing::{RawProducer, peak_rss_bytes};
use stack::service::Program;
use tokio::time::{sleep, timeout};

use crate::deployment::{Deployment, Plan};
use crate::infra::infra_alone;

const LETTERS: usize = 20_000;
const LETTER_BYTES: usize = 20_000;
/// A quarter of what a pod has, and a sixth of the letters: the pod's service runs beside.
const HELD_BYTES: usize = 64 * 1024 * 1024;

/// How long that may take on a machine that is busy with everything else.
const SENT_BACK: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn very_many_dead_letters_that_are_all_alike_are_listed_and_sent_back_within_the_memory_of_a_pod() {
    let infra = infra_alone().await;
    let plan = Plan::new("alike").replicas(0, 1);
    let stack = plan.prepare(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let topic = &stack.kafka.dead_letter_topic;
    for topic in [topic, &stack.kafka.topic] {
        infra.kafka.create_topic(topic, 10).await.expect("made");
    }
    let (producer, value) = (RawProducer::new(&stack.kafka), vec![b' '; LETTER_BYTES]);
    for _ in 0..LETTERS / 500 {
        let sends = (0..10).cycle().take(500);
        join_all(sends.map(|partition| producer.send(topic, partition, None, Some(&value)))).await;
    }
    let mut list = start(&stack, &["dead-letters", "list"], Stdio::inherit());
    let (mut listed, mut peak_bytes) = (0, 0);
    for line in BufReader::new(list.stdout.take().expect("piped")).split(b'\n') {
        assert!(line.expect("a line").len() > LETTER_BYTES);
        listed += 1;
        if listed % 100 == 0 {
            peak_bytes = peak_rss_bytes(list.id()).unwrap_or(0).max(peak_bytes);
        }
    }
    assert!(list.wait().expect("it ends").success());
    assert_eq!(listed, LETTERS);
    assert!((1..HELD_BYTES).contains(&peak_bytes), "{peak_bytes} bytes held");

    let (mut redrive, mut peak_bytes) = (start(&stack, &["dead-letters", "redrive", "--all"], Stdio::piped()), 0);
    let ended = async {
        loop {
            peak_bytes = peak_rss_bytes(redrive.id()).unwrap_or(0).max(peak_bytes);
            match redrive.try_wait().expect("it is ours") {
                Some(status) => return status,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    assert!(timeout(SENT_BACK, ended).await.expect("all are sent back in time").success());
    let said = std::io::read_to_string(redrive.stderr.take().expect("piped")).expect("text");
    assert!(said.contains(&format!("{LETTERS} sent back")), "{said}");
    assert!((1..HELD_BYTES).contains(&peak_bytes), "{peak_bytes} bytes held");
}

/// Starts a command of the service beside it.
fn start(stack: &Deployment, arguments: &[&str], stderr: Stdio) -> Child {
    let mut command = Command::new(Program::ManagementApi.executable().expect("it is built"));
    command.env_clear().envs(&stack.api[0].plan().settings).args(arguments);
    command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("it starts")
}
