//! What became of the mutants, for people and for programs.

use super::hunt::Verdict;

/// One mutant: who it is, how many worlds it took, and which checks noticed it.
pub fn line(verdict: &Verdict) -> String {
    let mutant = &verdict.mutant;
    let found = verdict.seeds_to_catch();
    let took = match (median(&found), found.last()) {
        (Some(median), Some(worst)) if verdict.is_caught() => format!("median {median:>5}  worst {worst:>5}"),
        _ => format!("MISSED in {} of {} rounds", verdict.catches.len() - found.len(), verdict.catches.len()),
    };
    let within = verdict.seeds_max;
    format!("{:<28} {:<10} {took}  within {within:>5}  {}", mutant.name, mutant.rule, verdict.checks().join(", "))
}

/// The last line.
pub fn summary(verdicts: &[Verdict]) -> String {
    let caught = verdicts.iter().filter(|verdict| verdict.is_caught()).count();
    format!("{} mutants, {caught} caught", verdicts.len())
}

/// All of it as JSON.
pub fn json(verdicts: &[Verdict]) -> String {
    let mutants: Vec<String> = verdicts.iter().map(json_of).collect();
    let caught = verdicts.iter().filter(|verdict| verdict.is_caught()).count();
    format!("{{\"mutants\":{},\"caught\":{caught},\"verdicts\":[\n{}\n]}}\n", verdicts.len(), mutants.join(",\n"))
}

/// Names and rules are plain words: nothing in them has to be escaped.
fn json_of(verdict: &Verdict) -> String {
    let found = verdict.seeds_to_catch();
    let number = |number: Option<u64>| number.map_or_else(|| "null".to_owned(), |number| number.to_string());
    let seeds: Vec<String> = verdict.catches.iter().map(|found| number(found.map(|found| found.seeds))).collect();
    let checks: Vec<String> = verdict.checks().iter().map(|check| format!("\"{check}\"")).collect();
    format!(
        "{{\"name\":\"{}\",\"rule\":\"{}\",\"caught\":{},\"within\":{},\"median\":{},\"worst\":{},\"seeds\":[{}],\"checks\":[{}]}}",
        verdict.mutant.name,
        verdict.mutant.rule,
        verdict.is_caught(),
        verdict.seeds_max,
        number(median(&found)),
        number(found.last().copied()),
        seeds.join(","),
        checks.join(",")
    )
}

/// The middle of what is in order; the higher one of two.
fn median(ordered: &[u64]) -> Option<u64> {
    ordered.get(ordered.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::{Catch, MUTANTS};

    fn verdict(seeds: &[Option<u64>]) -> Verdict {
        let found = |seeds: u64| Catch { seed: seeds - 1, seeds, check: "gapless" };
        Verdict { mutant: MUTANTS[0], seeds_max: 100, catches: seeds.iter().map(|seeds| seeds.map(found)).collect() }
    }

    #[test]
    fn a_mutant_missed_once_is_missed() {
        let verdicts = [verdict(&[Some(3), Some(40), Some(1)]), verdict(&[Some(3), None])];
        assert!(line(&verdicts[0]).contains("median     3  worst    40"), "{}", line(&verdicts[0]));
        assert!(line(&verdicts[1]).contains("MISSED in 1 of 2 rounds"), "{}", line(&verdicts[1]));
        assert_eq!(summary(&verdicts), "2 mutants, 1 caught");
    }

    #[test]
    fn programs_read_the_same() {
        let text = json(&[verdict(&[Some(3), None])]);
        assert!(text.contains("\"seeds\":[3,null]") && text.contains("\"checks\":[\"gapless\"]"), "{text}");
        assert!(text.contains("\"caught\":false") && text.starts_with("{\"mutants\":1,\"caught\":0"), "{text}");
    }
}
