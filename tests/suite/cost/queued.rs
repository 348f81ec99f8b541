//! The cost of a message that goes through the queue, to groups that are too large for one function. Everything is
//! counted, from the frame to the last job. Each receiver must get the message once.

use std::fmt::Write;

use functions::fanout;
use serde_json::json;

use super::{Bench, Cost, Row, compare, others, queue_requests};
use crate::jobs::event;
use crate::world::Deployment;

const MEMBERS: [usize; 2] = [10_000, 100_000];

/// One in this many members is online.
const OF_WHOM_ONE_IS_ONLINE: usize = 5;

/// The read units that one partition serves in a second, and the number of messages a second that it must allow.
const PARTITION_READS: f64 = 3_000.0;
const MESSAGES_PER_SECOND: f64 = 10.0;

const CONFIGURED: [(&str, &str); 3] = [
    ("MAX_GROUP_MEMBERS", "100000"),
    ("FANOUT_MEMBERS", "1000"),
    ("FANOUT_QUEUE_URL", "http://sqs.simulated/1/FanoutQueue"),
];

/// The cost of one message.
struct Message {
    members: usize,
    /// The function that received it, and all of its jobs.
    row: Row,
    jobs: usize,
    /// The read units of the most read partition.
    busiest: f64,
}

async fn message_to(members: usize) -> Message {
    let (bench, others) = (Bench::with(&CONFIGURED), others(members));
    let group = bench.inside.written_group("manager", &others).await;
    let mut online = Vec::new();
    for user in others.iter().step_by(OF_WHOM_ONE_IS_ONLINE) {
        online.extend(bench.connect(user, 1).await);
    }
    let sender = bench.inside.connect("manager").await;
    let frame = json!({ "type": "multicast", "groupId": group, "content": "x".repeat(500) });
    bench.meter.partitions.lock().expect("no holder of the lock panics").clear();
    let mut row = bench.send("", "manager", &sender, &frame).await;
    let jobs = bench.inside.world().take_jobs();
    for job in &jobs {
        add(&mut row, &run(&bench, job).await);
    }
    for connection in &online {
        assert_eq!(bench.inside.frames(connection).len(), 1, "each online member gets it once");
    }
    let partitions = bench.meter.partitions.lock().expect("no holder of the lock panics");
    let busiest = partitions.values().copied().fold(0.0, f64::max);
    Message { members, row, jobs: jobs.len(), busiest }
}

/// The cost of a job, with Lambda's receiving it from the queue and deleting it.
async fn run(bench: &Bench, job: &String) -> Cost {
    let event = event(std::slice::from_ref(job));
    let answer = bench.inside.invoke(&fanout::FUNCTION, &event).await.expect("a job is done");
    assert_eq!(answer, r#"{"batchItemFailures":[]}"#);
    let cost = bench.meter.take();
    Cost { queue: cost.queue + queue_requests(job.len()) + 1, ..cost }
}

fn add(row: &mut Row, job: &Cost) {
    row.invocations += 1;
    row.cost.writes += job.writes;
    row.cost.reads += job.reads;
    row.cost.calls += job.calls;
    row.cost.pushes += job.pushes;
    row.cost.queue += job.queue;
    row.cost.in_sequence = row.cost.in_sequence.max(job.in_sequence);
}

fn table(messages: &[Message]) -> String {
    let mut text = "| members | WRU | RRU | of the busiest partition | calls | in sequence, in one function | pushes \
                    | jobs | requests of the queue | USD per million | times the floor |\n"
        .to_owned();
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for Message { members, row, jobs, busiest } in messages {
        let Cost { writes, reads, calls, in_sequence, pushes, queue, .. } = row.cost;
        let (price, times) = (row.price(), row.price() / row.floor());
        writeln!(
            text,
            "| {members} | {writes} | {reads} | {busiest} | {calls} | {in_sequence} | {pushes} | {jobs} | {queue} \
             | {price:.2} | {times:.2} |"
        )
        .expect("a text takes all");
    }
    text
}

#[tokio::test(start_paused = true)]
async fn the_table_of_queued_costs_is_up_to_date() {
    if Deployment::is_elsewhere() {
        return;
    }
    let mut messages = Vec::new();
    for members in MEMBERS {
        let message = message_to(members).await;
        assert!((message.row.cost.writes - 1.0).abs() < 1e-9, "one write: {}", message.row.cost.writes);
        let busiest = MESSAGES_PER_SECOND * message.busiest;
        assert!(busiest < PARTITION_READS, "{members} members: {busiest} units a second of one partition");
        messages.push(message);
    }
    compare("queue", &table(&messages));
}
