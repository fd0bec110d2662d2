//! `judge`: the decision procedure of the rule book (rules A.8), as one pure function.
//!
//! Each address of a hop is judged alone and the greatest [`Reason`] decides, so neither the order of addresses nor the
//! order of rows can change a verdict. Cost: one suffix walk, one index probe, one range lookup an address; no
//! allocation (benches/hot_path.rs).

use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use super::rules::{ExpiredPolicy, ForeignMainland, IpSite, Rules};
use super::verdict::{Action, Reason, Rule, Verdict};
use crate::model::{
    self, Day, DomainName, Facts, Hop, Host, NameRef, OriginSide, Product, Region, Status, Subject, Via,
};
use crate::ranges::{RangeMatch, Ranges};
use crate::registry::{FilingId, Snapshot};

/// Judges `subject` against one snapshot, one range table and one rule set at the moment `now`.
///
/// Total: every subject gets a verdict. Sources: rules A.8 and the sections each [`Rule`] cites.
pub fn judge(rules: &Rules, snapshot: &Snapshot, ranges: &Ranges, subject: &Subject<'_>, now: SystemTime) -> Verdict {
    let book = Book { rules, snapshot, ranges, today: Day::at(now) };
    match subject.host {
        Host::Invalid => book.verdict(Action::Block, Reason::InvalidName, Rule::Invalid),
        Host::Address(addr) => book.ip_site(addr, subject.hop),
        Host::Name(name) => book.name(name, subject),
    }
}

/// Where one address of a hop stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    addr: Option<IpAddr>,
    range: Option<RangeMatch>,
    region: Region,
    product: Product,
    is_ours: bool,
    origin: OriginSide,
    by_chain: bool,
}

impl Place {
    /// This provider's mainland server, product not known: what stands behind an in-line gate.
    const IN_LINE: Self = Self {
        addr: None,
        range: None,
        region: Region::Mainland,
        product: Product::Untagged,
        is_ours: true,
        origin: OriginSide::Unknown,
        by_chain: false,
    };
}

/// The derived status of a registrable domain (rules A.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filed {
    Elsewhere,
    Here,
    Provisionally,
    Shell,
    Unfiled,
}

/// The arguments of one judgement.
struct Book<'a> {
    rules: &'a Rules,
    snapshot: &'a Snapshot,
    ranges: &'a Ranges,
    today: Day,
}

impl Book<'_> {
    fn verdict(&self, action: Action, reason: Reason, rule: Rule) -> Verdict {
        Verdict {
            action,
            reason,
            rule,
            enforceable: true,
            registrable_at: None,
            filing: None,
            address: None,
            range: None,
            mixed: false,
            registry_generation: self.snapshot.generation(),
            ranges_generation: self.ranges.generation(),
        }
    }

    /// A host that is an address (rule N4): only a mainland address is a mainland site.
    fn ip_site(&self, addr: IpAddr, hop: Hop<'_>) -> Verdict {
        let place = match hop {
            Hop::InLine | Hop::InLineAt(_) => Place { addr: Some(addr), ..Place::IN_LINE },
            Hop::Resolved { addresses, .. } => self.place(addresses.first().copied().unwrap_or(addr)),
        };
        let res = if !place.region.needs_filing() {
            self.verdict(Action::Allow, Reason::NotMainland, Rule::N2)
        } else {
            match self.rules.ip_site {
                IpSite::Allow => self.verdict(Action::Allow, Reason::NotOurs, Rule::N4),
                IpSite::Block => self.verdict(Action::Block, Reason::IpSite, Rule::N4),
                IpSite::Observe => {
                    Verdict { enforceable: false, ..self.verdict(Action::Block, Reason::IpSite, Rule::N4) }
                }
            }
        };
        Verdict { address: place.addr, range: place.range, ..res }
    }

    fn name(&self, name: NameRef<'_>, subject: &Subject<'_>) -> Verdict {
        let registrable = self.snapshot.suffixes().registrable(name);
        let filing = registrable.and_then(|domain| self.snapshot.find(domain));
        let at = registrable
            .map(|d| u8::try_from(name.wire().len() - d.wire().len()).expect("a name has at most 255 octets"));
        let fill = |v: Verdict| Verdict { registrable_at: at, filing, ..v };

        if self.rules.exempt.iter().any(|entry| name.is_at_or_below(entry.suffix.as_ref())) {
            return fill(self.verdict(Action::Allow, Reason::Exempt, Rule::Exempt));
        }
        let is_non_web =
            subject.via == Via::Dns && self.rules.non_web.iter().any(|entry| name.is_at_or_below(entry.as_ref()));
        let facts = filing.map(|id| self.snapshot.facts(id));
        let is_below = at.is_some_and(|n| n > 0);

        let mut worst: Option<Verdict> = None;
        let (mut some_need, mut some_free) = (false, false);
        self.each_place(subject.hop, |place| {
            if place.region.needs_filing() {
                some_need = true;
            } else {
                some_free = true;
            }
            let next = Verdict {
                address: place.addr,
                range: place.range,
                ..self.one_place(place, facts, filing, is_non_web, is_below)
            };
            if worst.is_none_or(|old| next.precedence() > old.precedence()) {
                worst = Some(next);
            }
        });
        // A hop without an address leads nowhere: nothing of it is on the mainland.
        let res = worst.unwrap_or_else(|| self.verdict(Action::Allow, Reason::NotMainland, Rule::N2));
        Verdict { mixed: some_need && some_free, ..fill(res) }
    }

    /// The verdict for one place; the lines follow rules A.8 from top to bottom.
    fn one_place(
        &self,
        place: &Place,
        facts: Option<Facts>,
        filing: Option<FilingId>,
        is_non_web: bool,
        is_below: bool,
    ) -> Verdict {
        if !place.region.needs_filing() {
            let rule = if place.by_chain { Rule::Amb8 } else { Rule::N2 };
            return self.verdict(Action::Allow, Reason::NotMainland, rule);
        }
        if is_non_web {
            return self.verdict(Action::Allow, Reason::NonWeb, Rule::Amb15);
        }
        let is_foreign = !place.is_ours;
        if is_foreign && self.rules.foreign_mainland == ForeignMainland::Ignore {
            return self.verdict(Action::Allow, Reason::NotOurs, Rule::Amb18);
        }
        let res = self.by_status(place, facts, filing, is_below);
        if is_foreign && self.rules.foreign_mainland == ForeignMainland::Observe && res.action == Action::Block {
            return Verdict { enforceable: false, ..res };
        }
        res
    }

    /// The last five lines of rules A.8: the filing's status against what the place needs.
    fn by_status(&self, place: &Place, facts: Option<Facts>, filing: Option<FilingId>, is_below: bool) -> Verdict {
        let Some(facts) = facts else {
            let rule = if place.by_chain { Rule::Amb8 } else { Rule::B1 };
            return self.verdict(Action::Block, Reason::NotFiled, rule);
        };
        if facts.restricted {
            return self.verdict(Action::Block, Reason::Restricted, Rule::Restricted);
        }
        let needs_access = place.is_ours && self.needs_access(place, facts);
        let filed = self.filed(facts);
        // What is bound is a filing; without one the name is to be filed first.
        let is_unbound = |id| place.addr.is_some_and(|addr| self.snapshot.is_unbound(id, &self.forms(addr)));
        if filed != Filed::Unfiled && filing.is_some_and(is_unbound) {
            return self.verdict(Action::Block, Reason::NotBound, Rule::BindCheck);
        }
        match filed {
            Filed::Unfiled => self.verdict(Action::Block, Reason::NotFiled, unfiled_rule(facts.status)),
            Filed::Here => {
                let rule = if is_below { Rule::S1 } else { Rule::N1 };
                self.verdict(Action::Allow, Reason::Filed, rule)
            }
            Filed::Provisionally => self.verdict(Action::Allow, Reason::Filed, Rule::Amb12),
            Filed::Shell if needs_access => self.verdict(Action::Block, Reason::NotAccessed, Rule::Amb17),
            Filed::Elsewhere if needs_access => self.verdict(Action::Block, Reason::NotAccessed, Rule::B2),
            Filed::Elsewhere | Filed::Shell if !place.is_ours => {
                self.verdict(Action::Allow, Reason::Filed, Rule::Amb18)
            }
            Filed::Elsewhere | Filed::Shell => {
                self.verdict(Action::Allow, Reason::ProductExempt, product_rule(place.product))
            }
        }
    }

    /// Rules A.0 and AMB-12.
    fn filed(&self, facts: Facts) -> Filed {
        let registration_ended =
            self.rules.expired == ExpiredPolicy::Block && facts.expires_on.is_some_and(|end| end < self.today);
        if facts.status != Status::Active || registration_ended {
            Filed::Unfiled
        } else if facts.accessed_here {
            Filed::Here
        } else if facts.provisional_until.is_some_and(|last| self.today <= last) {
            Filed::Provisionally
        } else if facts.access_is_empty {
            Filed::Shell
        } else {
            Filed::Elsewhere
        }
    }

    /// Rules A.4: servers, balancers and site builders need 接入; object storage only with its origin site here.
    fn needs_access(&self, place: &Place, facts: Facts) -> bool {
        match place.product {
            Product::Ecs | Product::Slb | Product::SiteBuilder | Product::Untagged => true,
            Product::Cdn | Product::Ddos | Product::Waf => false,
            Product::Oss => {
                let origin = if facts.origin == OriginSide::Unknown { place.origin } else { facts.origin };
                origin == OriginSide::Ours
            }
        }
    }

    /// Calls `visit` for each place a hop leads to: an address under the product of its CNAME chain, if there is one.
    ///
    /// A region setting that needs no filing says nothing about an address that stands on the mainland all the same: the
    /// hop that is seen is judged (rule AMB-9).
    fn each_place(&self, hop: Hop<'_>, mut visit: impl FnMut(&Place)) {
        let (addresses, chain) = match hop {
            Hop::InLine => return visit(&Place::IN_LINE),
            Hop::InLineAt(addr) => return visit(&Place { addr: Some(addr), ..Place::IN_LINE }),
            Hop::Resolved { addresses, chain } => (addresses, chain),
        };
        let product = self.chain_place(chain);
        for &addr in addresses {
            let plain = self.place(addr);
            match product {
                Some(place) if place.region.needs_filing() || !plain.region.needs_filing() => {
                    visit(&Place { addr: Some(addr), ..place });
                }
                Some(_) | None => visit(&plain),
            }
        }
    }

    /// Rule AMB-8: a product with a region setting answers from anywhere; the setting decides, the strictest of several.
    fn chain_place(&self, chain: &[DomainName]) -> Option<Place> {
        let mut found = chain.iter().filter_map(|target| self.ranges.cname(target.as_ref()));
        let strictest = found.clone().find(|product| product.region.needs_filing()).or_else(|| found.next())?;
        Some(Place {
            addr: None,
            range: None,
            region: strictest.region,
            product: strictest.product,
            is_ours: true,
            origin: OriginSide::Unknown,
            by_chain: true,
        })
    }

    /// Where `addr` stands; an IPv6 address that carries an IPv4 one stands where that stands (D-D9).
    fn place(&self, addr: IpAddr) -> Place {
        let plain = self.plain_place(addr, addr);
        let IpAddr::V6(v6) = addr else { return plain };
        let mut res = plain;
        for inner in model::unwrap(v6, self.ranges.nat64()).iter() {
            let place = self.plain_place(addr, IpAddr::V4(inner));
            if place.region.needs_filing() && !res.region.needs_filing() {
                res = place;
            }
        }
        res
    }

    /// An address with the IPv4 ones it carries, of which there are two at most; it stands for those that are not there.
    fn forms(&self, addr: IpAddr) -> [IpAddr; 3] {
        let mut res = [addr; 3];
        if let IpAddr::V6(v6) = addr {
            let carried = model::unwrap(v6, self.ranges.nat64());
            res.iter_mut().skip(1).zip(carried.iter()).for_each(|(form, inner)| *form = IpAddr::V4(inner));
        }
        res
    }

    fn plain_place(&self, shown: IpAddr, looked_up: IpAddr) -> Place {
        let range = self.ranges.lookup(looked_up);
        Place {
            addr: Some(shown),
            range,
            region: range.map_or(Region::Overseas, |r| r.region),
            product: range.map_or(Product::Untagged, |r| r.product),
            is_ours: range.is_some_and(|r| r.is_ours),
            origin: range.map_or(OriginSide::Unknown, |r| r.origin),
            by_chain: false,
        }
    }
}

impl Verdict {
    /// Which of several places' verdicts decides: what is enforced first, then the reason's own order.
    pub fn precedence(&self) -> (Action, bool, Reason) {
        (self.action, self.enforceable, self.reason)
    }
}

/// Tells whether `addr` alone would ask for a filing; the rewriter strips such addresses of a mixed answer.
pub fn needs_filing(ranges: &Ranges, addr: IpAddr) -> bool {
    let is_mainland = |addr: IpAddr| ranges.lookup(addr).is_some_and(|r| r.region.needs_filing());
    is_mainland(addr)
        || matches!(addr, IpAddr::V6(v6) if model::unwrap(v6, ranges.nat64()).iter().any(|inner: Ipv4Addr| is_mainland(IpAddr::V4(inner))))
}

fn unfiled_rule(status: Status) -> Rule {
    match status {
        Status::Active | Status::Expired => Rule::B1,
        Status::Cancelled => Rule::B5,
        Status::Pending | Status::Rejected => Rule::N5,
    }
}

fn product_rule(product: Product) -> Rule {
    match product {
        Product::Cdn => Rule::ProductCdn,
        Product::Ddos => Rule::ProductDdos,
        Product::Oss => Rule::ProductOss,
        Product::Waf => Rule::ProductWaf,
        Product::Ecs | Product::SiteBuilder | Product::Slb | Product::Untagged => Rule::N1,
    }
}
