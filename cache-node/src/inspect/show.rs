//! A journal's summary as text for people.

use std::fmt;

use super::{DamageSummary, EpochSummary, JournalSummary, RecordSummary};

impl fmt::Display for JournalSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_header(f)?;
        self.write_damage(f)?;
        writeln!(f)?;
        writeln!(f, "shard  epoch       from        end    entries    adopted    missing          bytes")?;
        for shard in &self.shards {
            for held in &shard.epochs {
                let EpochSummary { epoch, from, end, entries, adopted, missing, body_bytes } = held;
                let shard = shard.shard;
                write!(f, "{shard:>5} {epoch:>6} {from:>10} {end:>10} {entries:>10} {adopted:>10} {missing:>10}")?;
                writeln!(f, " {body_bytes:>14}")?;
            }
            if let Some(sealed) = shard.sealed {
                writeln!(f, "{:>5} sealed below epoch {sealed} ({} promise(s))", shard.shard, shard.seals)?;
            }
        }
        for RecordSummary { id, offset, group, body_bytes, says } in self.listing.iter().flatten() {
            writeln!(f, "record {id} at byte {offset} in group {group}, {body_bytes} bytes: {says}")?;
        }
        Ok(())
    }
}

impl JournalSummary {
    fn write_header(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "journal  {}", self.journal)?;
        writeln!(f, "path     {} ({})", self.path, self.storage)?;
        if let Some(node) = self.node {
            writeln!(f, "node     {node}")?;
        }
        writeln!(f, "format   version {}, blocks of {} bytes", self.version, self.block_bytes)?;
        writeln!(f, "size     {} bytes, {} of them the ring", self.size_bytes, self.ring_bytes)?;
        let state = match (self.is_in_use, self.is_closed) {
            (true, _) => "in use by another process: what follows is of a moment",
            (false, true) => "closed properly",
            (false, false) => "not closed properly: the next start recovers it",
        };
        writeln!(f, "state    {state}")?;
        let Self { groups, records, used_bytes, free_bytes, pinned_bytes, .. } = self;
        writeln!(f, "used     {used_bytes} bytes in {groups} group(s) of {records} record(s)")?;
        writeln!(f, "pinned   {pinned_bytes} bytes of it: padding, and what was replaced")?;
        writeln!(f, "free     {free_bytes} bytes")?;
        if self.torn_bytes > 0 {
            writeln!(f, "torn     {} bytes of a last group that never completed", self.torn_bytes)?;
        }
        Ok(())
    }

    fn write_damage(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.known_damage > 0 {
            writeln!(f, "damage   {} place(s) that an earlier start answered with a new id", self.known_damage)?;
        }
        if self.unknown_records > 0 {
            writeln!(f, "unknown  {} record(s) that another build wrote", self.unknown_records)?;
        }
        if !self.is_damaged() {
            return writeln!(f, "damage   none that is new");
        }
        let Self { damaged_records, damaged_places, .. } = self;
        writeln!(f, "DAMAGE   at least {damaged_records} record(s) in {damaged_places} place(s) do not verify")?;
        for DamageSummary { offset, bytes, group, groups, records_kept, records_lost } in &self.damage {
            write!(f, "         byte {offset}, {bytes} bytes, group {group}, {groups} group(s):")?;
            writeln!(f, " {records_kept} record(s) intact, at least {records_lost} lost")?;
        }
        Ok(())
    }
}
