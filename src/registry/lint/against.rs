//! Checks against an older state (rules R6c, R6d, R20): what a site's domains and numbers were, and what they are now.
//!
//! A difference tells which domains came under a site number and which went; whether the site was there before is told
//! by the rows that stayed. So the older state need not be kept: what a reload changed and the new rows are enough.

use std::collections::{BTreeMap, HashMap};

use super::row::{finding, is_of_site};
use super::{Findings, Options};
use crate::model::{Day, DomainName, Status};
use crate::registry::diff::{Change, each_change};
use crate::registry::issue::{Issue, Severity};
use crate::registry::{Filing, Snapshot};

/// Domains of which a running gate remembers that they came under a site number or went; with more, none are checked.
const MOVES_MAX: usize = 10_000;

/// What counts of a row in force: a site number, and whose filing of when it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stood {
    site_no: String,
    subject: Option<String>,
    filed_on: Option<Day>,
}

impl Stood {
    /// Of a row in force whose number is a site's; a main number alone, as of a licence, stands for many sites.
    fn of(row: Option<&Filing>) -> Option<Self> {
        let row = row.filter(|row| row.status == Status::Active)?;
        let site_no = row.site_no.clone().filter(|site_no| is_of_site(site_no))?;
        Some(Self { site_no, subject: row.subject.clone(), filed_on: row.filed_on })
    }

    /// True when the filing is the same one: nobody filed anew, which gives another number.
    fn is_same_filing(&self, other: &Self) -> bool {
        self.subject == other.subject && self.filed_on == other.filed_on
    }
}

fn site_of(stood: Option<&Stood>) -> Option<&str> {
    stood.map(|stood| stood.site_no.as_str())
}

/// Where a domain stood before and stands now; `None` where under no site number.
#[derive(Clone, Debug)]
struct Move {
    before: Option<Stood>,
    now: Option<Stood>,
}

impl Move {
    fn sites(&self) -> (Option<&str>, Option<&str>) {
        (site_of(self.before.as_ref()), site_of(self.now.as_ref()))
    }

    fn is_none(&self) -> bool {
        let (before, now) = self.sites();
        before == now
    }

    /// True when it brings a domain back to the site that `other` took it from.
    fn restores(&self, other: &Self) -> bool {
        let ((before, now), (other_before, other_now)) = (self.sites(), other.sites());
        now.is_some() && before == other_now && now == other_before
    }
}

/// Domains by site number.
type BySite<'a> = BTreeMap<&'a str, Vec<&'a DomainName>>;

/// Domains that came under a site number and went, of one reload or of several: what comes back has not moved.
#[derive(Clone, Debug, Default)]
pub struct SiteMoves {
    moves: BTreeMap<DomainName, Move>,
    /// What was told already, so that putting it right is no finding.
    told: BTreeMap<DomainName, Move>,
    /// True when what was before these is not known.
    is_cut: bool,
}

impl SiteMoves {
    /// True when nothing came, went or changed its number.
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// True when no more are remembered.
    pub fn is_full(&self) -> bool {
        self.moves.len() >= MOVES_MAX
    }

    /// Forgets all: half of what a reload moved would make domains that came look as if others had stayed.
    pub fn forget(&mut self) {
        *self = Self { is_cut: true, ..Self::default() };
    }

    /// These, then those of `later`.
    pub fn followed_by(mut self, later: Self) -> Self {
        if later.is_cut {
            return later;
        }
        later.moves.into_iter().for_each(|(domain, moved)| self.add(domain, moved));
        if self.is_full() {
            self.forget();
        }
        self
    }

    /// None, with these as told.
    pub fn into_told(mut self) -> Self {
        self.told.extend(self.moves);
        if self.told.len() > MOVES_MAX {
            self.told.clear();
        }
        Self { told: self.told, ..Self::default() }
    }

    /// Notes what became of the row of one domain.
    pub fn note(&mut self, old: Option<&Filing>, new: Option<&Filing>) {
        let Some(domain) = new.or(old).map(|row| row.domain.clone()) else { return };
        self.add(domain, Move { before: Stood::of(old), now: Stood::of(new) });
    }

    fn add(&mut self, domain: DomainName, later: Move) {
        if later.is_none() {
            return;
        }
        let res = match self.moves.remove(&domain) {
            Some(earlier) => Move { before: earlier.before, now: later.now },
            None if self.told.remove(&domain).is_some_and(|told| later.restores(&told)) => return,
            None => later,
        };
        if !res.is_none() {
            self.moves.insert(domain, res);
        }
    }

    /// What they break, given the rows that there are now; `None` when it was stopped.
    pub fn findings(&self, new: &Snapshot, options: &Options<'_>) -> Option<Findings> {
        let mut res = Findings::at_most(options.findings_max);
        let (mut came, mut gone) = (BySite::new(), BySite::new());
        for (domain, moved) in &self.moves {
            if let (Some(before), Some(now)) = (&moved.before, &moved.now)
                && before.is_same_filing(now)
            {
                if let Some(row) = new.find(domain.as_ref()).map(|id| new.filing(id)) {
                    res.push(renumbered(&row, &before.site_no));
                }
                continue;
            }
            let (before, now) = moved.sites();
            before.into_iter().for_each(|site_no| gone.entry(site_no).or_default().push(domain));
            now.into_iter().for_each(|site_no| came.entry(site_no).or_default().push(domain));
        }
        // Rows that stayed under a number that others came to.
        let mut stayed: HashMap<&str, usize> = HashMap::new();
        if !came.is_empty() {
            for id in new.pieces().into_iter().flat_map(|piece| new.ids_in(piece)) {
                if options.is_stopped() {
                    return None;
                }
                let row = new.filing(id);
                let site_no = row.site_no.as_deref().filter(|_| row.status == Status::Active);
                let Some((known, came)) = site_no.and_then(|now| came.get_key_value(now)) else { continue };
                if !came.contains(&&row.domain) {
                    *stayed.entry(known).or_default() += 1;
                }
            }
        }
        for (site_no, came) in &came {
            let gone = gone.get(site_no).map_or(&[][..], Vec::as_slice);
            let stayed = stayed.get(site_no).copied().unwrap_or(0);
            if gone.is_empty() && stayed == 0 {
                continue;
            }
            for domain in came {
                if let Some(row) = new.find(domain.as_ref()).map(|id| new.filing(id)) {
                    res.push(moved(&row, gone, gone.len() + stayed));
                }
            }
        }
        res.sort();
        Some(res)
    }
}

/// Rule R20: numbers never change in place.
fn renumbered(row: &Filing, before: &str) -> Issue {
    let now = row.site_no.as_deref().unwrap_or_default();
    let text = [
        format!("the number of {} was {before}; expected deregister-site and a new filing between them", row.domain),
        format!("{} 的备案号原为 {before}；改号须先注销再备案", row.domain),
    ];
    finding(row, Severity::Error, "R20", ("site_no", now), text).with_fix(before)
}

/// Rules R6c and R6d: a domain came under a number that had `before` domains, of which `gone` went.
fn moved(row: &Filing, gone: &[&DomainName], before: usize) -> Issue {
    let (domain, site_no) = (&row.domain, row.site_no.as_deref().unwrap_or_default());
    let names = gone.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (before, gone) {
        (1, [old]) => {
            let text = [
                format!("the site's only domain was {old}; expected deregister-site, then add-site for {domain}"),
                format!("该网站原来唯一的域名为 {old}；应先注销，再为 {domain} 新增网站"),
            ];
            finding(row, Severity::Error, "R6c", ("site_no", site_no), text).with_fix(old.to_string())
        }
        _ => {
            let instead = if names.is_empty() { String::new() } else { format!(" (gone: {names})") };
            let text = [
                format!("{domain} came to a site that was filed without it{instead}; domains may only stay or go"),
                format!("{domain} 加入了原先没有它的网站{instead}；域名只能保留或删除"),
            ];
            finding(row, Severity::Error, "R6d", ("site_no", site_no), text)
        }
    }
}

/// Holds a whole state against an older one; `None` when it was stopped.
pub fn against(old: &Snapshot, new: &Snapshot, options: &Options<'_>) -> Option<Findings> {
    let mut moves = SiteMoves::default();
    each_change(old, new, |change| {
        let domain = match &change {
            Change::Added(domain) | Change::Changed(domain, _) | Change::Removed(domain) => domain,
        };
        let row = |snapshot: &Snapshot| snapshot.find(domain.as_ref()).map(|id| snapshot.filing(id));
        moves.note(row(old).as_ref(), row(new).as_ref());
    });
    moves.findings(new, options)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Lists;
    use super::*;
    use crate::model::SuffixTable;

    fn row(domain: &str, site: u32) -> Filing {
        Filing {
            site_no: Some(format!("京ICP备2016000001号-{site}")),
            access: vec!["self".to_owned()],
            ..Filing::new(DomainName::from_text(domain).expect(domain))
        }
    }

    fn snapshot(rows: &[Filing]) -> Snapshot {
        Snapshot::build(1, Arc::new(SuffixTable::built_in()), "self", false, rows.to_vec())
    }

    fn found(old: &[Filing], new: &[Filing]) -> Vec<(&'static str, String)> {
        let lists = Lists::built_in();
        let options = Options::new(Day::parse("2026-11-24").expect("a day"), &lists);
        let found = against(&snapshot(old), &snapshot(new), &options).expect("not stopped");
        found.issues.into_iter().map(|issue| (issue.rule, issue.value)).collect()
    }

    #[test]
    fn domains_of_a_site_may_only_stay_or_go() {
        let number = |site: u32| format!("京ICP备2016000001号-{site}");
        let cancelled = |domain: &str| Filing { status: Status::Cancelled, ..row(domain, 1) };
        let refiled = |domain: &str, site: u32| Filing { filed_on: Day::parse("2026-01-01").ok(), ..row(domain, site) };
        for (old, new, expected) in [
            (vec![row("a.cn", 1)], vec![row("b.cn", 1)], vec![("R6c", number(1))]),
            (vec![row("a.cn", 1)], vec![cancelled("a.cn"), row("b.cn", 1)], vec![("R6c", number(1))]),
            (vec![row("a.cn", 1), row("b.cn", 1)], vec![row("a.cn", 1), row("c.cn", 1)], vec![("R6d", number(1))]),
            (vec![row("a.cn", 1)], vec![row("a.cn", 1), row("c.cn", 1)], vec![("R6d", number(1))]),
            (vec![row("a.cn", 1), row("b.cn", 1)], vec![row("a.cn", 1)], vec![]),
            (vec![row("a.cn", 1)], vec![row("a.cn", 1), row("c.cn", 2)], vec![]),
            (vec![row("a.cn", 1)], vec![row("a.cn", 2)], vec![("R20", number(2))]),
            (vec![row("a.cn", 1)], vec![refiled("a.cn", 2)], vec![]),
            (vec![], vec![row("a.cn", 1), row("b.cn", 1)], vec![]),
        ] {
            assert_eq!(found(&old, &new), expected);
        }
    }

    /// What a gate finds of the last of these states, having looked after those that are marked.
    fn found_after(states: &[(&[Filing], bool)]) -> Vec<&'static str> {
        let lists = Lists::built_in();
        let options = Options::new(Day::parse("2026-11-24").expect("a day"), &lists);
        let (mut moves, mut res) = (SiteMoves::default(), Vec::new());
        for pair in states.windows(2) {
            let [(old, _), (new, is_looked_at)] = pair else { unreachable!("windows of two") };
            let (old, new) = (snapshot(old), snapshot(new));
            let row =
                |snapshot: &Snapshot, domain: &DomainName| snapshot.find(domain.as_ref()).map(|id| snapshot.filing(id));
            let mut later = SiteMoves::default();
            each_change(&old, &new, |change| {
                later.note(row(&old, change.domain()).as_ref(), row(&new, change.domain()).as_ref());
            });
            moves = moves.followed_by(later);
            if *is_looked_at {
                let found = moves.findings(&new, &options).expect("not stopped");
                res = found.issues.into_iter().map(|issue| issue.rule).collect();
                moves = moves.into_told();
            }
        }
        res
    }

    #[test]
    fn what_comes_back_has_not_moved() {
        let whole = [row("a.cn", 1), row("b.cn", 2), row("c.cn", 2)];
        let (cut, swapped) = ([row("b.cn", 2)], [row("x.cn", 1), row("b.cn", 2), row("c.cn", 2)]);
        for (states, expected) in [
            (vec![(&whole[..], false), (&cut, false), (&whole, true)], vec![]),
            // Looked at in between: domains that are gone alone break nothing, and those that come back neither.
            (vec![(&whole, false), (&cut, true), (&whole, true)], vec![]),
            (vec![(&whole, false), (&swapped, true)], vec!["R6c"]),
            (vec![(&whole, false), (&swapped, true), (&whole, true)], vec![]),
            (vec![(&whole, false), (&cut, false), (&swapped, true)], vec!["R6c"]),
        ] {
            assert_eq!(found_after(&states), expected);
        }
    }

    #[test]
    fn a_main_number_alone_is_no_site() {
        let licence = |domain: &str| Filing { site_no: Some("京ICP证030173号".to_owned()), ..row(domain, 1) };
        assert_eq!(found(&[licence("a.cn")], &[licence("a.cn"), licence("b.cn")]), []);
        assert_eq!(found(&[licence("a.cn")], &[licence("b.cn")]), []);
    }

    #[test]
    fn half_of_what_moved_is_not_checked() {
        let mut moves = SiteMoves::default();
        moves.note(Some(&row("a.cn", 1)), None);
        let mut later = SiteMoves::default();
        later.forget();
        later.note(None, Some(&row("b.cn", 1)));
        let moves = moves.followed_by(later);
        assert_eq!(moves.moves.len(), 1, "only what came after it");
        let many = (0..MOVES_MAX as u32).fold(SiteMoves::default(), |mut moves, n| {
            moves.note(None, Some(&row(&format!("n{n}.cn"), n + 1)));
            moves
        });
        assert!(many.is_full() && moves.followed_by(many).is_empty());
    }
}
