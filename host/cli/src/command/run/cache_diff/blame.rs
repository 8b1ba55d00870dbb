//! What causes the differences between a run without caches and one with them: nothing is blamed that was not seen to
//! change the result by itself, or together with others of which each is needed for it.

use std::collections::BTreeSet;

use loom_contract::cache_diff::CacheKey;
use loom_contract::error::ErrorInfo;

use super::facts::{Facts, Place, Subject};

/// How many runs are made at most to find out what causes a difference. For up to 15 keys that hit, they are always enough.
pub(super) const MOST_TRIALS: usize = 32;

/// A key that hit.
#[derive(Debug, Clone)]
pub(super) struct Suspect {
    pub(super) key: CacheKey,
    /// Where the jobs leave their results that were given its entry.
    pub(super) subjects: BTreeSet<Subject>,
}

/// A run that is made to find something out.
pub(super) struct Trial {
    /// The entries that it is given, and no others.
    pub(super) keys: BTreeSet<CacheKey>,
    /// What is to be found out: what follows "run 3, ".
    pub(super) why: String,
}

/// What was found out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Finding {
    /// Keys that change the result, one alone or several together, and where.
    pub(super) blamed: Vec<(BTreeSet<CacheKey>, BTreeSet<Place>)>,
    /// Where the result is not the same each time.
    pub(super) not_deterministic: BTreeSet<Place>,
    /// Where it was not found out.
    pub(super) unknown: BTreeSet<Place>,
    /// Keys that hit and change nothing.
    pub(super) innocent: BTreeSet<CacheKey>,
    /// Keys that hit and are neither blamed nor innocent.
    pub(super) undecided: BTreeSet<CacheKey>,
}

/// Finds out, by runs that `run` makes, what causes the differences between `without` caches and `with` them. Nothing where
/// `run` was cancelled.
///
/// # Errors
/// Those of `run`.
pub(super) fn find(
    without: &Facts,
    with: &Facts,
    suspects: &[Suspect],
    run: &mut dyn FnMut(&Trial) -> Result<Option<Facts>, ErrorInfo>,
) -> Result<Option<Finding>, ErrorInfo> {
    let differ = without.differ(with);
    let mut trials = Trials { run, left: MOST_TRIALS, without, with, noise: BTreeSet::new() };
    let why = "without caches again: what differs between two such runs is not a cache's doing";
    let Some(noise) = trials.without_caches(why)? else { return Ok(None) };
    let mut finding =
        Finding { not_deterministic: differ.intersection(&noise).cloned().collect(), ..Finding::default() };
    let caused: BTreeSet<Place> = differ.difference(&noise).cloned().collect();
    trials.noise = noise;
    let all: BTreeSet<CacheKey> = suspects.iter().map(|suspect| suspect.key.clone()).collect();
    if caused.is_empty() || all.is_empty() {
        // Without a key that hit, a difference comes from the jobs, also where two runs happened to agree.
        finding.not_deterministic.extend(caused);
        finding.innocent = all;
        return Ok(Some(finding));
    }

    let Some(open) = alone(&mut trials, suspects, &caused, &mut finding)? else { return Ok(None) };
    if !open.is_empty() {
        match together(&mut trials, &all, &open)? {
            Together::Cancelled => return Ok(None),
            // It was not seen again: the jobs differ now and then.
            Together::NotAgain => finding.not_deterministic.extend(open),
            Together::NotFound => {
                finding.unknown = open;
                finding.undecided.append(&mut finding.innocent);
            }
            Together::Found(keys, changed) => {
                finding.innocent.retain(|key| !keys.contains(key));
                finding.undecided.retain(|key| !keys.contains(key));
                finding.unknown = open.difference(&changed).cloned().collect();
                finding.blamed.push((keys, changed));
            }
        }
    }
    if !finding.blamed.is_empty() && trials.left > 0 {
        // A job that differs now and then may have done so just where it looked like a key's doing.
        let why = "without caches once more: whether what is blamed stays away";
        let Some(noise) = trials.without_caches(why)? else { return Ok(None) };
        finding.absolve(&noise);
    }
    Ok(Some(finding))
}

impl Finding {
    /// The result is not the same each time at `noise`: nobody is to blame for that.
    fn absolve(&mut self, noise: &BTreeSet<Place>) {
        for (keys, places) in std::mem::take(&mut self.blamed) {
            let left: BTreeSet<Place> = places.difference(noise).cloned().collect();
            self.not_deterministic.extend(places.intersection(noise).cloned());
            match left.is_empty() {
                true => self.innocent.extend(keys),
                false => self.blamed.push((keys, left)),
            }
        }
        let guilty = self.blamed.iter().flat_map(|(keys, _)| keys);
        let guilty: BTreeSet<CacheKey> = guilty.cloned().collect();
        self.innocent.retain(|key| !guilty.contains(key));
    }
}

/// Tries each of `suspects` alone. Returns which of the differences at `caused` none of them causes; nothing where a run was
/// cancelled.
fn alone(
    trials: &mut Trials<'_>,
    suspects: &[Suspect],
    caused: &BTreeSet<Place>,
    finding: &mut Finding,
) -> Result<Option<BTreeSet<Place>>, ErrorInfo> {
    // Those of jobs that differ themselves first; the others only for what is not explained by then.
    let near = |suspect: &&Suspect| caused.iter().any(|place| suspect.subjects.contains(&place.subject));
    let (first, rest): (Vec<&Suspect>, Vec<&Suspect>) = suspects.iter().partition(near);
    let mut open = caused.clone();
    for (suspect, is_near) in first.iter().map(|s| (s, true)).chain(rest.iter().map(|s| (s, false))) {
        let key = &suspect.key;
        if open.is_empty() && !is_near {
            finding.innocent.insert(key.clone());
            continue;
        }
        if trials.left == 0 {
            finding.undecided.insert(key.clone());
            continue;
        }
        match trials.with(BTreeSet::from([key.clone()]), format!("with {} alone", named(key)), caused)? {
            Tried::Cancelled => return Ok(None),
            Tried::Odd => drop(finding.undecided.insert(key.clone())),
            Tried::Changed(changed) if changed.is_empty() => drop(finding.innocent.insert(key.clone())),
            Tried::Changed(changed) => {
                open = open.difference(&changed).cloned().collect();
                finding.blamed.push((BTreeSet::from([key.clone()]), changed));
            }
        }
    }
    Ok(Some(open))
}

enum Together {
    Cancelled,
    NotAgain,
    NotFound,
    Found(BTreeSet<CacheKey>, BTreeSet<Place>),
}

/// Which of `all` keys together cause the differences at `open`, which none of them causes alone: those of which none can
/// be left out.
fn together(
    trials: &mut Trials<'_>,
    all: &BTreeSet<CacheKey>,
    open: &BTreeSet<Place>,
) -> Result<Together, ErrorInfo> {
    if all.len() < 2 {
        return Ok(Together::NotAgain);
    }
    if trials.left == 0 {
        return Ok(Together::NotFound);
    }
    let why = "with all keys that hit: whether what none of them causes alone shows again".to_owned();
    let mut target = match trials.with(all.clone(), why, open)? {
        Tried::Cancelled => return Ok(Together::Cancelled),
        Tried::Odd => return Ok(Together::NotFound),
        Tried::Changed(changed) if changed.is_empty() => return Ok(Together::NotAgain),
        Tried::Changed(changed) => changed,
    };
    let mut keys = all.clone();
    for key in all {
        // That one alone does not cause it is known.
        if keys.len() == 2 {
            break;
        }
        if trials.left == 0 {
            return Ok(Together::NotFound);
        }
        let mut fewer = keys.clone();
        fewer.remove(key);
        let why = format!("without {}: whether the others do it together", named(key));
        match trials.with(fewer.clone(), why, &target)? {
            Tried::Cancelled => return Ok(Together::Cancelled),
            Tried::Odd => return Ok(Together::NotFound),
            Tried::Changed(still) if still.is_empty() => {}
            Tried::Changed(still) => (keys, target) = (fewer, still),
        }
    }
    Ok(Together::Found(keys, target))
}

/// How a key is called on a line.
pub(super) fn named(key: &CacheKey) -> String {
    let name = if key.name.is_empty() { "cache" } else { &key.name };
    format!("`{name} {}`", key.key)
}

struct Trials<'a> {
    run: &'a mut dyn FnMut(&Trial) -> Result<Option<Facts>, ErrorInfo>,
    /// How many may still be made.
    left: usize,
    without: &'a Facts,
    with: &'a Facts,
    /// Where runs without caches differ.
    noise: BTreeSet<Place>,
}

/// What a run with some entries showed.
enum Tried {
    Cancelled,
    /// A job or step ended as in neither of the first two runs: what came of the others says nothing.
    Odd,
    /// Where it differs from the run without caches, of what was asked for.
    Changed(BTreeSet<Place>),
}

impl Trials<'_> {
    /// Where a run without caches differs from the first one.
    fn without_caches(&mut self, why: &str) -> Result<Option<BTreeSet<Place>>, ErrorInfo> {
        let facts = self.run(BTreeSet::new(), why.to_owned())?;
        Ok(facts.map(|facts| self.without.differ(&facts)))
    }

    /// Whether a run with these entries differs from the one without caches at some of `places`.
    fn with(
        &mut self,
        keys: BTreeSet<CacheKey>,
        why: String,
        places: &BTreeSet<Place>,
    ) -> Result<Tried, ErrorInfo> {
        let Some(facts) = self.run(keys, why)? else { return Ok(Tried::Cancelled) };
        if facts.ends_otherwise(self.without, self.with, &self.noise) {
            return Ok(Tried::Odd);
        }
        let changed = self.without.differ(&facts);
        Ok(Tried::Changed(places.intersection(&changed).cloned().collect()))
    }

    fn run(&mut self, keys: BTreeSet<CacheKey>, why: String) -> Result<Option<Facts>, ErrorInfo> {
        self.left = self.left.saturating_sub(1);
        (self.run)(&Trial { keys, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> CacheKey {
        CacheKey { name: name.to_owned(), key: "k".to_owned() }
    }

    fn keys(names: &[&str]) -> BTreeSet<CacheKey> {
        names.iter().map(|name| key(name)).collect()
    }

    /// What `find` blames of `suspects`, and in how many runs, where `result` is what a run with these keys comes to.
    fn tried(
        suspects: &[&str],
        mut result: impl FnMut(&BTreeSet<CacheKey>, usize) -> Vec<(&'static str, u8)>,
    ) -> (Vec<BTreeSet<CacheKey>>, Finding, usize) {
        let all: Vec<Suspect> = suspects
            .iter()
            .map(|name| Suspect { key: key(name), subjects: [Subject::Workspace].into() })
            .collect();
        let without = Facts::of_files(&result(&keys(&[]), 0));
        let with = Facts::of_files(&result(&keys(suspects), 1));
        let mut runs = 0;
        let finding = find(&without, &with, &all, &mut |trial| {
            runs += 1;
            Ok(Some(Facts::of_files(&result(&trial.keys, 1 + runs))))
        });
        let finding = finding.unwrap().unwrap();
        (finding.blamed.iter().map(|(keys, _)| keys.clone()).collect(), finding, runs)
    }

    #[test]
    fn the_guilty_one_of_several_is_blamed_alone() {
        let names = ["a", "b", "c"];
        let (blamed, finding, runs) =
            tried(&names, |keys, _| vec![("out", u8::from(keys.contains(&key("b"))))]);
        assert_eq!((blamed, runs), (vec![keys(&["b"])], 5));
        assert_eq!(finding.innocent, keys(&["a", "c"]));
        assert!(finding.unknown.is_empty() && finding.not_deterministic.is_empty());
    }

    #[test]
    fn a_combination_is_found_without_those_that_are_not_needed() {
        let names = ["a", "b", "c", "d"];
        let (blamed, finding, runs) =
            tried(&names, |used, _| vec![("out", u8::from(used.is_superset(&keys(&["b", "d"]))))]);
        assert_eq!(blamed, [keys(&["b", "d"])]);
        assert_eq!(finding.innocent, keys(&["a", "c"]));
        assert!(runs <= 11, "{runs}");
    }

    #[test]
    fn what_differs_without_caches_is_nobodys_fault() {
        let (blamed, finding, runs) = tried(&["a"], |_, run| vec![("random", u8::try_from(run).unwrap())]);
        assert_eq!((blamed.len(), runs), (0, 1));
        assert_eq!((finding.innocent, finding.not_deterministic.len()), (keys(&["a"]), 1));
        // Nor is what shows only once.
        let (blamed, finding, _) = tried(&["a", "b"], |_, run| vec![("rare", u8::from(run == 1))]);
        assert_eq!((blamed.len(), finding.not_deterministic.len()), (0, 1));
        assert_eq!(finding.innocent, keys(&["a", "b"]));
        // Nor what comes and goes as if it were a key's doing.
        let (blamed, finding, _) =
            tried(&["a"], |_, run| vec![("flaky", u8::from([1, 3, 4].contains(&run)))]);
        assert_eq!((blamed.len(), finding.not_deterministic.len()), (0, 1));
        // Beside a true fault.
        let (blamed, finding, _) = tried(&["a"], |keys, run| {
            vec![("random", u8::try_from(run).unwrap()), ("out", u8::from(!keys.is_empty()))]
        });
        assert_eq!((blamed, finding.not_deterministic.len()), (vec![keys(&["a"])], 1));
    }

    #[test]
    fn runs_are_bounded_and_nobody_is_blamed_for_lack_of_them() {
        let names: Vec<String> = (0..40).map(|at| format!("{at:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (blamed, finding, runs) = tried(&names, |keys, _| vec![("out", u8::from(keys.len() > 39))]);
        assert_eq!((blamed.len(), runs), (0, MOST_TRIALS));
        assert_eq!((finding.undecided.len(), finding.unknown.len()), (40, 1));
    }
}
