//! One message of each kind, drawn from a seed.

use bytes::Bytes;
use kennel_protocol::entry::NumberedEntry;
use kennel_protocol::frame::FrameKind;
use kennel_protocol::ids::{ClusterId, Epoch, HostId, Incarnation, JournalId, Lsn, NodeId, ProcessId, SlabId};
use kennel_protocol::limits::{ADVERT_BYTES_MAX, FETCH_BYTES_MAX, LANDINGS_MAX};
use kennel_protocol::wire::{
    AdvertBytes, Ask, AskAnswer, CatalogAck, CatalogOffer, CatalogPut, CatalogRequest, CatalogVerdict, Catalogued,
    CompareRequest, Compared, Copy, CopyAck, CopyEntry, CopySource, ErrorCode, FabricOffer, FabricRequest, Fetch,
    FetchFrom, FetchInto, Fetched, Follow, Hello, Landed, LandingId, LandingOutcome, Landings, LandingsRequest,
    LentLanding, LocalOffer, LocalRequest, LocalSocket, LocalToken, Message, NodeAddress, PartitionMarks,
    PartitionReport, Partitions, PartitionsRequest, PlacedCopy, Positions, PositionsRequest, Pull, Pulled, Role, Seal,
    SealAnswer, Served, ShardMessage, ShardStamp, ShardView, Ship, ShipAck, ShipChunk, ShipProblem, ShipRefusal, View,
    ViewRequest, Welcome, WireError,
};

use super::{Draw, batch, catalog, entry};

/// A valid message of this kind.
pub(crate) fn message(kind: FrameKind, draw: &mut Draw) -> Message {
    match kind {
        FrameKind::Hello | FrameKind::Welcome | FrameKind::Error => opening(kind, draw),
        FrameKind::ViewRequest | FrameKind::View | FrameKind::PartitionsRequest | FrameKind::Partitions => {
            picture(kind, draw)
        }
        FrameKind::CatalogPut
        | FrameKind::CatalogAck
        | FrameKind::CatalogRequest
        | FrameKind::Catalogued
        | FrameKind::CatalogOffer
        | FrameKind::CatalogVerdict => names(kind, draw),
        FrameKind::PositionsRequest | FrameKind::Positions | FrameKind::Ship | FrameKind::ShipAck => {
            shipping(kind, draw)
        }
        FrameKind::CompareRequest => Message::CompareRequest(CompareRequest {
            shard: draw.shard(),
            messages: draw.list(|draw| (draw.partition(), draw.identity())),
        }),
        FrameKind::Compared => Message::Compared(Compared {
            shard: draw.shard(),
            ring: draw.list(|draw| (draw.partition(), draw.maybe(Draw::identity))),
        }),
        FrameKind::LocalRequest => Message::LocalRequest(LocalRequest { host: HostId(draw.wide()) }),
        FrameKind::LocalOffer => Message::LocalOffer(LocalOffer {
            socket: draw.maybe(|draw| LocalSocket {
                path: draw.text(),
                token: LocalToken(draw.wide()),
                slab: SlabId(draw.wide()),
            }),
        }),
        FrameKind::Fetch => Message::Fetch(fetch(draw)),
        FrameKind::Fetched => Message::Fetched(fetched(draw)),
        FrameKind::Follow => {
            let Fetch { partition, from, bytes_max, epoch, last, .. } = fetch(draw);
            Message::Follow(Follow { partition, from, bytes_max, epoch, last })
        }
        FrameKind::Followed => Message::Followed(fetched(draw)),
        FrameKind::FabricRequest
        | FrameKind::FabricOffer
        | FrameKind::FetchInto
        | FrameKind::Landed
        | FrameKind::LandingsRequest
        | FrameKind::Landings
        | FrameKind::PlacedCopy => placing(kind, draw),
        between => Message::Shard(shard_message(between, draw)),
    }
}

fn opening(kind: FrameKind, draw: &mut Draw) -> Message {
    match kind {
        FrameKind::Hello => Message::Hello(Hello {
            version_min: 1,
            version_max: 1 + draw.short() % 9,
            role: [Role::Node, Role::Shipper, Role::Client][draw.index(3)],
            cluster: draw.maybe(|draw| ClusterId(draw.wide())),
            node: draw.maybe(|draw| NodeId(draw.number())),
            process: ProcessId(draw.wide()),
            agent: draw.text(),
        }),
        FrameKind::Welcome => Message::Welcome(Welcome {
            version: draw.short(),
            cluster: ClusterId(draw.wide()),
            node: NodeId(draw.number()),
            process: ProcessId(draw.wide()),
            shard_count: 1 + draw.short() % 4096,
        }),
        _ => Message::Error(WireError {
            code: [ErrorCode::VersionWindow, ErrorCode::Busy, ErrorCode::Internal][draw.index(3)],
            message: draw.text(),
            offset: draw.maybe(Draw::offset),
            node: draw.maybe(|draw| NodeId(draw.number())),
        }),
    }
}

fn picture(kind: FrameKind, draw: &mut Draw) -> Message {
    match kind {
        FrameKind::ViewRequest => Message::ViewRequest(ViewRequest),
        FrameKind::View => Message::View(View {
            shard_count: 8,
            nodes: draw.list(|draw| NodeAddress {
                node: NodeId(draw.number()),
                address: draw.text(),
                zone: draw.text(),
            }),
            shards: draw.list(|draw| ShardView {
                shard: draw.shard(),
                epoch: draw.epoch(),
                owner: draw.maybe(|draw| NodeId(draw.number())),
            }),
        }),
        FrameKind::PartitionsRequest => Message::PartitionsRequest(PartitionsRequest { shard: draw.shard() }),
        _ => Message::Partitions(Partitions {
            shard: draw.shard(),
            epoch: draw.epoch(),
            partitions: draw.list(|draw| PartitionReport {
                partition: draw.partition(),
                trim: draw.offset(),
                stored: draw.offset(),
                committed: draw.offset(),
            }),
        }),
    }
}

fn names(kind: FrameKind, draw: &mut Draw) -> Message {
    match kind {
        FrameKind::CatalogPut => {
            Message::CatalogPut(CatalogPut { revision: draw.number(), catalog: catalog(draw).encode() })
        }
        FrameKind::CatalogAck => {
            Message::CatalogAck(CatalogAck { revision: draw.number(), incarnation_next: Incarnation(draw.number()) })
        }
        FrameKind::CatalogRequest => Message::CatalogRequest(CatalogRequest { newer_than: draw.maybe(Draw::number) }),
        FrameKind::Catalogued => Message::Catalogued(Catalogued {
            revision: draw.maybe(Draw::number),
            catalog: draw.maybe(|draw| catalog(draw).encode()),
        }),
        FrameKind::CatalogOffer => {
            Message::CatalogOffer(CatalogOffer { base: draw.maybe(Draw::number), catalog: catalog(draw).encode() })
        }
        _ => Message::CatalogVerdict(CatalogVerdict { taken: draw.coin(), revision: draw.maybe(Draw::number) }),
    }
}

fn shipping(kind: FrameKind, draw: &mut Draw) -> Message {
    match kind {
        FrameKind::PositionsRequest => {
            Message::PositionsRequest(PositionsRequest { shard: draw.shard(), partitions: draw.list(Draw::partition) })
        }
        FrameKind::Positions => {
            Message::Positions(Positions { shard: draw.shard(), epoch: draw.epoch(), marks: draw.list(marks) })
        }
        FrameKind::Ship => Message::Ship(Ship {
            shard: draw.shard(),
            epoch: Epoch(draw.below(9)),
            chunks: draw.list(|draw| {
                let entry = entry(draw);
                ShipChunk { head: entry.head, body: entry.body }
            }),
        }),
        _ => Message::ShipAck(ShipAck {
            shard: draw.shard(),
            epoch: draw.epoch(),
            marks: draw.list(marks),
            problems: draw.list(|draw| (draw.partition(), problem(draw))),
            refusal: draw.maybe(|draw| {
                [ShipRefusal::NotOwner, ShipRefusal::JournalFull, ShipRefusal::UploadsBehind, ShipRefusal::Halted]
                    [draw.index(4)]
            }),
        }),
    }
}

fn marks(draw: &mut Draw) -> PartitionMarks {
    PartitionMarks {
        partition: draw.partition(),
        next: draw.offset(),
        committed: draw.offset(),
        stored: draw.offset(),
        last: draw.maybe(Draw::identity),
    }
}

fn problem(draw: &mut Draw) -> ShipProblem {
    match draw.below(3) {
        0 => ShipProblem::Expected(draw.offset()),
        1 => ShipProblem::Diverged { ring: draw.identity(), source: draw.identity() },
        _ => ShipProblem::Corrupt,
    }
}

fn fetch(draw: &mut Draw) -> Fetch {
    Fetch {
        partition: draw.partition(),
        from: match draw.below(4) {
            0 => FetchFrom::Offset(draw.offset()),
            1 => FetchFrom::Timestamp(draw.number()),
            2 => FetchFrom::First,
            _ => FetchFrom::Last,
        },
        bytes_max: u32::try_from(draw.index(FETCH_BYTES_MAX)).expect("a few MiB"),
        messages_max: draw.word(),
        wait_millis: draw.word(),
        epoch: draw.epoch(),
        last: draw.maybe(Draw::identity),
        forwarded: draw.coin(),
    }
}

fn fetched(draw: &mut Draw) -> Fetched {
    let (partition, start) = (draw.partition(), draw.offset());
    Fetched {
        partition,
        epoch: draw.epoch(),
        start,
        next: start.plus(draw.below(100)),
        trim: draw.offset(),
        stored: draw.offset(),
        committed: draw.offset(),
        holes: draw.list(|draw| (start, start.plus(draw.below(9)), draw.reason())),
        served: [Served::Tail, Served::CacheMemory, Served::CacheDisk, Served::Bucket, Served::Nothing][draw.index(5)],
        batches: batch(draw, partition.partition, start),
    }
}

fn placing(kind: FrameKind, draw: &mut Draw) -> Message {
    match kind {
        FrameKind::FabricRequest => Message::FabricRequest(FabricRequest { provider: draw.text() }),
        FrameKind::FabricOffer => Message::FabricOffer(FabricOffer { provider: draw.maybe(Draw::text) }),
        FrameKind::FetchInto => {
            let length = draw.index(ADVERT_BYTES_MAX + 1);
            Message::FetchInto(FetchInto { fetch: fetch(draw), advert: AdvertBytes(draw.bytes(length).to_vec()) })
        }
        FrameKind::LandingsRequest => Message::LandingsRequest(LandingsRequest {
            provider: draw.text(),
            wanted: u16::try_from(draw.index(LANDINGS_MAX + 1)).expect("few"),
            anew: draw.coin(),
            unused: draw.list(|draw| LandingId(draw.number())),
            given_up: draw.list(|draw| LandingId(draw.number())),
        }),
        FrameKind::Landings => Message::Landings(Landings {
            offered: draw.coin(),
            lent: draw.list(|draw| {
                let length = draw.index(ADVERT_BYTES_MAX + 1);
                LentLanding { id: LandingId(draw.number()), advert: AdvertBytes(draw.bytes(length).to_vec()) }
            }),
        }),
        FrameKind::PlacedCopy => match shard_message(FrameKind::Copy, draw) {
            ShardMessage::Copy(copy) => Message::PlacedCopy(PlacedCopy::new(&copy, LandingId(draw.number())).0),
            other => panic!("{other:?} is no copy"),
        },
        _ => {
            let fetched = fetched(draw);
            Message::Landed(match draw.below(3) {
                0 => {
                    let bytes = u32::try_from(1 + draw.index(FETCH_BYTES_MAX)).expect("a few MiB");
                    let fetched = Fetched { batches: Bytes::new(), ..fetched };
                    Landed { fetched, outcome: LandingOutcome::Placed(bytes) }
                }
                1 => Landed { fetched, outcome: LandingOutcome::Untouched },
                _ => Landed { fetched, outcome: LandingOutcome::Unknown },
            })
        }
    }
}

fn shard_message(kind: FrameKind, draw: &mut Draw) -> ShardMessage {
    let stamp = ShardStamp { shard: draw.shard(), epoch: draw.epoch(), process: ProcessId(draw.wide()) };
    let (journal, gather) = (JournalId(draw.wide()), draw.epoch());
    let (from, end) = (Lsn(draw.number()), Lsn(draw.number()));
    let fenced = draw.maybe(Draw::epoch);
    match kind {
        FrameKind::Ask => ShardMessage::Ask(Ask { stamp, round: draw.number() }),
        FrameKind::AskAnswer => ShardMessage::AskAnswer(AskAnswer {
            stamp,
            round: draw.number(),
            journal,
            newest: draw.epoch(),
            hears_owner: draw.coin(),
        }),
        FrameKind::Seal => ShardMessage::Seal(Seal { stamp, gather }),
        FrameKind::SealAnswer => ShardMessage::SealAnswer(SealAnswer { stamp, journal, gather, from, end, fenced }),
        FrameKind::Pull => ShardMessage::Pull(Pull { stamp, gather, from, end }),
        FrameKind::Pulled => ShardMessage::Pulled(Pulled {
            stamp,
            gather,
            entries: draw.list(|draw| NumberedEntry { lsn: Lsn(draw.number()), entry: entry(draw) }),
        }),
        FrameKind::Copy => ShardMessage::Copy(Copy {
            stamp,
            entries: draw.list(copy_entry),
            committed: from,
            stored: end,
            open: draw.coin(),
            released: draw.coin(),
        }),
        _ => {
            ShardMessage::CopyAck(CopyAck { stamp, journal, durable: from, expected: end, inline: draw.coin(), fenced })
        }
    }
}

fn copy_entry(draw: &mut Draw) -> CopyEntry {
    let source = if draw.coin() {
        CopySource::Inline(entry(draw))
    } else {
        CopySource::Adopt { epoch: draw.epoch(), lsn: Lsn(draw.number()) }
    };
    CopyEntry { lsn: Lsn(draw.number()), source }
}
