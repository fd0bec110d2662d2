//! Where a name leads by the local zones, so that the demo explains itself without a network.

use std::net::IpAddr;

use anyhow::Context;
use hickory_proto::op::Message;
use hickory_proto::rr::RData;

use crate::dns::question::Question;
use crate::dns::settings::ZoneFile;
use crate::dns::wire::rtype;
use crate::dns::zones::Zones;
use crate::model::DomainName;

/// CNAMEs followed from zone to zone, as resolvers do.
const CHAIN_MAX: usize = 16;

/// What the zones say.
#[derive(Default)]
pub struct Found {
    /// Final addresses.
    pub addresses: Vec<IpAddr>,
    /// CNAME targets in order.
    pub chain: Vec<DomainName>,
    /// What is worth saying of it.
    pub note: Option<String>,
}

/// Asks the local zones for the addresses of `name`, of the families that `qtype` names.
pub fn resolve(files: &[ZoneFile], name: &DomainName, qtype: Option<&str>) -> anyhow::Result<Found> {
    let mut res = Found::default();
    if files.is_empty() {
        return Ok(res);
    }
    let zones = Zones::load_blocking(files).context("zones")?;
    if !zones.holds(name.as_ref()) {
        return Ok(res);
    }
    let types: &[u16] = match qtype {
        Some(text) if text.eq_ignore_ascii_case("A") => &[rtype::A],
        Some(text) if text.eq_ignore_ascii_case("AAAA") => &[rtype::AAAA],
        _ => &[rtype::A, rtype::AAAA],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("starting the runtime")?;
    let mut at = name.clone();
    for _ in 0..CHAIN_MAX {
        let before = res.chain.len();
        for &qtype in types {
            runtime.block_on(ask(&zones, &at, qtype, &mut res));
        }
        match res.chain.last() {
            Some(target) if res.addresses.is_empty() && res.chain.len() > before && zones.holds(target.as_ref()) => {
                at = target.clone();
            }
            _ => break,
        }
    }
    let last = res.chain.last().unwrap_or(name);
    res.note = res.addresses.is_empty().then(|| format!("{last}: no address in the local zones; --address gives one"));
    Ok(res)
}

async fn ask(zones: &Zones, name: &DomainName, qtype: u16, res: &mut Found) {
    let question = Question {
        name: name.clone(),
        qtype,
        qclass: 1,
        recursion_desired: false,
        authentic_data: false,
        checking_disabled: false,
        dnssec_ok: false,
    };
    let Some(octets) = zones.ask(&question).await else { return };
    let Ok(message) = Message::from_vec(&octets) else { return };
    for record in &message.answers {
        match &record.data {
            RData::A(addr) => res.addresses.push(IpAddr::V4(addr.0)),
            RData::AAAA(addr) => res.addresses.push(IpAddr::V6(addr.0)),
            RData::CNAME(target) => {
                let target = DomainName::from_labels(target.0.iter());
                res.chain.extend(target.ok().filter(|target| !res.chain.contains(target)));
            }
            _ => {}
        }
    }
}
