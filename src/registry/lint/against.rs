//! Checks against an older state (rules R6c, R6d, R20): what a site's domains and numbers were, and what they are now.
//!
//! A difference tells which domains came under a site number and which went; whether the site was there before is told
//! by the rows that stayed. So the older state need not be kept: what a reload changed and the new rows are enough.

use std::collections::{BTreeMap, HashMap};

use super::row::finding;
use super::{Findings, Options};
use crate::model::{DomainName, Status};
use crate::registry::diff::{Change, each_change};
use crate::registry::issue::{Issue, Severity};
use crate::registry::{Filing, Snapshot};

/// Domains of which a running gate remembers that they came under a site number or went; more are not checked.
const MOVES_MAX: usize = 10_000;

/// Domains that came and went, by site number.
#[derive(Clone, Debug, Default)]
pub struct SiteMoves {
    came: BTreeMap<String, Vec<DomainName>>,
    gone: BTreeMap<String, Vec<DomainName>>,
    /// Site numbers that were replaced: the domain and the number before.
    renumbered: Vec<(DomainName, String)>,
    count: usize,
}

/// The site number of a row in force.
fn site(row: Option<&Filing>) -> Option<&str> {
    row.filter(|row| row.status == Status::Active).and_then(|row| row.site_no.as_deref())
}

impl SiteMoves {
    /// True when nothing came, went or changed its number.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True when no more are remembered.
    pub fn is_full(&self) -> bool {
        self.count >= MOVES_MAX
    }

    /// These, then those of `later`.
    pub fn followed_by(mut self, later: Self) -> Self {
        for (site_no, domains) in later.came {
            self.came.entry(site_no).or_default().extend(domains);
        }
        for (site_no, domains) in later.gone {
            self.gone.entry(site_no).or_default().extend(domains);
        }
        self.renumbered.extend(later.renumbered);
        self.count += later.count;
        self
    }

    /// Notes what became of the row of one domain.
    pub fn note(&mut self, old: Option<&Filing>, new: Option<&Filing>) {
        let Some(domain) = new.or(old).map(|row| row.domain.clone()) else { return };
        let (before, now) = (site(old), site(new));
        if before == now {
            return;
        }
        self.count += 1;
        if let (Some(old), Some(new), Some(before)) = (old, new, before)
            && now.is_some()
            && is_same_filing(old, new)
        {
            self.renumbered.push((domain, before.to_owned()));
            return;
        }
        if let Some(now) = now {
            self.came.entry(now.to_owned()).or_default().push(domain.clone());
        }
        if let Some(before) = before {
            self.gone.entry(before.to_owned()).or_default().push(domain);
        }
    }

    /// What they break, given the rows that there are now; `None` when it was stopped.
    pub fn findings(&self, new: &Snapshot, options: &Options<'_>) -> Option<Findings> {
        let mut res = Findings::at_most(options.findings_max);
        for (domain, before) in &self.renumbered {
            if let Some(row) = new.find(domain.as_ref()).map(|id| new.filing(id)) {
                res.push(renumbered(&row, before));
            }
        }
        // Rows that stayed under a number that others came to.
        let mut stayed: HashMap<&str, usize> = HashMap::new();
        if !self.came.is_empty() {
            for id in new.pieces().into_iter().flat_map(|piece| new.ids_in(piece)) {
                if options.is_stopped() {
                    return None;
                }
                let row = new.filing(id);
                let Some((known, came)) = site(Some(&row)).and_then(|now| self.came.get_key_value(now)) else {
                    continue;
                };
                if !came.contains(&row.domain) {
                    *stayed.entry(known.as_str()).or_default() += 1;
                }
            }
        }
        for (site_no, came) in &self.came {
            let gone = self.gone.get(site_no).map_or(&[][..], Vec::as_slice);
            let stayed = stayed.get(site_no.as_str()).copied().unwrap_or(0);
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

/// True when the filing is the same one before and now: nobody filed anew, which gives another number.
fn is_same_filing(old: &Filing, new: &Filing) -> bool {
    old.subject == new.subject && old.filed_on == new.filed_on
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
fn moved(row: &Filing, gone: &[DomainName], before: usize) -> Issue {
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
    use crate::model::{Day, SuffixTable};

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
}
