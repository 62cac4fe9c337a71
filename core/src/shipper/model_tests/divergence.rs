//! Sources that lost what they had said, and gave its offsets to other messages.

use kennel_protocol::batch::{BatchBuilder, inspect_chunk};

use super::*;

/// F21: what was issued again may end before the ring does, and then it looks as if it were only behind.
#[test]
fn a_shorter_history_that_differs_is_no_shorter_one() {
    for seed in 0..40 {
        let log = Log { start: 0, end: 63, damaged_at: None };
        let faults = if seed == 0 { CALM } else { Faults { refused: 0, ..STORM } };
        let mut world = World::new(seed, faults, small(), BTreeMap::from([(key(0), log)]));
        world.forked_at = 50;
        plant(&mut world, 70, Some(identity(key(0), 69)));
        world.run();
        let [(_, PartitionNews::Stopped(PartitionProblem::Diverged { ring, source_message }))] = &world.news[..] else {
            panic!("seed {seed}: {:?}", world.news);
        };
        assert_eq!((ring.offset, *source_message), (Offset(62), identity(key(0), 62)));
        assert_ne!(ring, source_message);
        assert_eq!(world.shipper.status().bytes_sent, 0);
    }
}

/// What was issued again lies in other batches: the end of the ring is in the middle of one of them.
#[test]
fn a_batch_over_the_end_is_compared_there() {
    let mut batch = BatchBuilder::new(key(0).partition, Offset(35), 9);
    for _ in 0..7 {
        batch = batch.payload(b"again");
    }
    let body = batch.build();
    let at_end = comparing::message_at(&body, Offset(39)).expect("it is in there");
    for (ring, diverged) in [(at_end, false), (identity(key(0), 39), true)] {
        let (mut shipper, ticket) = moving_at(40, ring);
        let head = inspect_chunk(key(0), &body).expect("a whole batch");
        let chunks = vec![ShipChunk { head, body: body.clone() }];
        let read = SourceAnswer { ticket, chunks, rest: SourceRest::More };
        let mut effects = Effects::default();
        shipper.handle(Instant::from_micros(9), Input::SourceRead(read), &mut effects);
        let asked = effects.then.iter().find_map(|effect| match effect {
            Effect::Compare { node, request } => Some((*node, request.clone())),
            _ => None,
        });
        let (from, request) = asked.expect("the ring is asked");
        assert_eq!(request.messages, [(key(0), at_end)]);
        let compared = Compared { shard: request.shard, ring: vec![(key(0), Some(ring))] };
        let mut effects = Effects::default();
        shipper.handle(Instant::from_micros(10), Input::Compared { from, compared }, &mut effects);
        let stopped = effects.then.iter().find_map(|effect| match effect {
            Effect::Report { news: PartitionNews::Stopped(problem), .. } => Some(problem.clone()),
            _ => None,
        });
        match stopped.expect("nothing of it can be appended") {
            PartitionProblem::Diverged { ring: told, source_message } => {
                assert!(diverged && (told, source_message) == (ring, at_end));
            }
            PartitionProblem::Misaligned { expected, base } => {
                assert!(!diverged && (expected, base) == (Offset(40), Offset(35)));
            }
            other => panic!("{other}"),
        }
    }
}

/// A shipper of partition 0 that has just asked for its first read, where the ring stands.
fn moving_at(next: u64, last: MessageIdentity) -> (Shipper, Ticket) {
    let log = Log { start: 0, end: 63, damaged_at: None };
    let mut world = World::new(1, CALM, small(), BTreeMap::from([(key(0), log)]));
    plant(&mut world, next, Some(last));
    let source = SourceState { partition: key(0), start: Offset(0), end: None };
    for input in [Input::Start, Input::Source(source), Input::SourcesListed] {
        world.feed(input);
    }
    loop {
        let (entry, event) = world.events.pop_first().expect("it goes on until it reads");
        world.now = entry.0;
        match event {
            Event::ToShipper(Input::SourceRead(answer)) => return (world.shipper, answer.ticket),
            Event::ToShipper(input) => world.feed(input),
            Event::Ask(node, request) => world.ask(node, &request),
            Event::ToOwner(..) | Event::Compare(..) => panic!("nothing was read yet"),
        }
    }
}
