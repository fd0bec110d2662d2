//! DNS messages: read as hickory and `domain` read them where both do, with no address left out that they see, and the same
//! when written.

use std::net::IpAddr;

use bytes::Bytes;
use domain::base::iana::Rtype;
use domain::base::message::RecordSection;
use domain::base::name::ToName;
use domain::rdata::{A, Aaaa, Cname};
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::svcb::SvcParamValue;
use hickory_proto::rr::{Name, RData, Record};
use icpgate::dns::answer::Answer;
use icpgate::dns::question::{DecodeError, Query, decode};
use icpgate::dns::wire::{self, Section, WireError, Writer, rtype};
use icpgate::model::DomainName;

/// Types that hickory keeps apart from the other records: OPT, SIG (which it takes for a signature of the message), TSIG.
const KEPT_APART: [u16; 3] = [rtype::OPT, 24, 250];

/// Reads octets as a query and as an answer.
pub fn check(octets: &[u8]) {
    if octets.len() > wire::MESSAGE_OCTETS_MAX {
        return;
    }
    let theirs = Message::from_vec(octets).ok();
    match decode(octets) {
        Ok(query) => {
            sound(octets, &query);
            same_question_as_domain(octets, &query);
            if let Some(theirs) = &theirs {
                same_query(&query, theirs);
            }
        }
        Err(DecodeError::NotQuery) => assert!(octets.len() < wire::HEADER_OCTETS || octets[2] & 0x80 != 0),
        Err(_) => {}
    }
    if let Ok(answer) = Answer::read(Bytes::copy_from_slice(octets)) {
        inside(&answer);
        same_records_as_domain(&answer);
        if let Some(theirs) = &theirs {
            same_records(&answer, theirs);
            all_addresses(&answer, theirs);
        }
        rewritten(&answer);
    }
}

/// A query's question is echoed as it was sent, and reads the same alone.
fn sound(octets: &[u8], query: &Query) {
    let question = &octets[wire::HEADER_OCTETS..][..query.question_octets.len()];
    assert_eq!(question, query.question_octets);
    assert_eq!(query.question.name.wire(), canonical(&question[..question.len() - 4]));
    assert_eq!(query.question.dnssec_ok, query.edns.is_some_and(|edns| edns.dnssec_ok));
    assert!(query.edns.is_none_or(|edns| edns.udp_octets >= 512));
    let again = decode(&icpgate::dns::question::encode(&query.question, query.id, 1232)).expect("what is encoded");
    assert_eq!((&again.question, again.id), (&query.question, query.id));
}

fn same_query(query: &Query, theirs: &Message) {
    let ours = &query.question;
    assert_eq!(theirs.metadata.id, query.id);
    assert_eq!(theirs.queries.len(), 1);
    let question = &theirs.queries[0];
    assert_eq!(canonical(&wire_of(&question.name)), ours.name.wire());
    assert_eq!((u16::from(question.query_type), u16::from(question.query_class)), (ours.qtype, ours.qclass));
    assert_eq!(
        (theirs.metadata.recursion_desired, theirs.metadata.authentic_data, theirs.metadata.checking_disabled),
        (ours.recursion_desired, ours.authentic_data, ours.checking_disabled)
    );
    let edns = theirs.edns.as_ref().map(|edns| (edns.max_payload().max(512), edns.flags().dnssec_ok));
    assert_eq!(edns, query.edns.map(|edns| (edns.udp_octets, edns.dnssec_ok)));
}

/// The form of a name that is looked up: lower case, and labels in UTF-8 as the A-labels they mean.
fn canonical(name: &[u8]) -> Vec<u8> {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    DomainName::from_wire(name).expect("a name").0.wire().to_vec()
}

/// A name as it stands on the wire, in lower case.
fn wire_of(name: &Name) -> Vec<u8> {
    let mut res = Vec::new();
    for label in name {
        res.push(u8::try_from(label.len()).expect("a label"));
        res.extend(label.to_ascii_lowercase());
    }
    res.push(0);
    res
}

fn owner(message: &[u8], record: &wire::Record) -> Vec<u8> {
    wire::read_name_cased(message, record.owner_at).expect("was read").0.to_ascii_lowercase()
}

/// Every record lies inside the message, one after the other, in the order of the sections.
fn inside(answer: &Answer) {
    let mut end = answer.question_end().expect("was read");
    let mut section = Section::Answer;
    for record in &answer.records {
        assert!(record.owner_at == end && record.data_at <= record.data_end && record.section >= section);
        (end, section) = (record.data_end, record.section);
    }
    assert_eq!(end, answer.message.len(), "nothing stands behind the last record");
}

/// The question as `domain` reads it.
fn same_question_as_domain(octets: &[u8], query: &Query) {
    let theirs = domain::base::Message::from_octets(octets).expect("has a header");
    let question = theirs.sole_question().expect("was read here");
    assert_eq!(canonical(&wire_as_domain(question.qname())), query.question.name.wire());
    let (qtype, qclass) = (question.qtype().to_int(), question.qclass().to_int());
    assert_eq!((qtype, qclass), (query.question.qtype, query.question.qclass));
    // It takes an OPT with an option that breaks off for none.
    if let Some(opt) = theirs.opt() {
        let edns = (opt.udp_payload_size().max(512), opt.dnssec_ok());
        assert_eq!(Some(edns), query.edns.map(|edns| (edns.udp_octets, edns.dnssec_ok)));
    }
}

/// Every record as `domain` reads it, and every address that it sees.
fn same_records_as_domain(answer: &Answer) {
    let theirs = domain::base::Message::from_octets(&answer.message[..]).expect("has a header");
    let mut rows: Vec<Row> = Vec::new();
    let sections = [Section::Answer, Section::Authority, Section::Additional];
    // A question is stepped over here, and held against what was asked elsewhere; it may be longer than a name.
    let Ok(first) = theirs.answer() else { return };
    let mut read = Some(first);
    for section in sections {
        let Some(records) = read else { panic!("{section:?} was read here") };
        for record in records {
            let record = record.expect("was read here");
            let (rtype, class) = (record.rtype().to_int(), record.class().to_int());
            rows.push((section, wire_as_domain(&record.owner()), rtype, class, record.ttl().as_secs()));
        }
        read = records.next_section().expect("was read here");
    }
    let ours = answer.records.iter();
    let row = |record: &wire::Record| {
        (record.section, owner(&answer.message, record), record.rtype, record.class, record.ttl)
    };
    assert_eq!(ours.map(row).collect::<Vec<_>>(), rows);
    let Ok(records) = theirs.answer() else { return };
    addresses_of_domain(answer, records);
}

fn addresses_of_domain(answer: &Answer, records: RecordSection<'_, &[u8]>) {
    let has = |addr: IpAddr| assert!(answer.addresses.contains(&addr), "{addr} is not judged");
    for record in records.flatten().filter(|record| record.class().to_int() == 1) {
        match record.rtype() {
            Rtype::A => {
                if let Ok(Some(record)) = record.to_record::<A>() {
                    has(record.data().addr().into());
                }
            }
            Rtype::AAAA => {
                if let Ok(Some(record)) = record.to_record::<Aaaa>() {
                    has(record.data().addr().into());
                }
            }
            Rtype::CNAME => {
                if let Ok(Some(record)) = record.to_record::<Cname<_>>() {
                    let target = canonical(&wire_as_domain(record.data().cname()));
                    assert!(answer.chain.iter().any(|name| name.wire() == target), "{target:?} is not judged");
                }
            }
            _ => {}
        }
    }
}

/// A name of `domain` as it stands on the wire, in lower case.
fn wire_as_domain(name: &impl ToName) -> Vec<u8> {
    name.to_vec().as_slice().to_ascii_lowercase()
}

type Row = (Section, Vec<u8>, u16, u16, u32);

fn same_records(answer: &Answer, theirs: &Message) {
    let ours: Vec<Row> = answer
        .records
        .iter()
        .filter(|record| !KEPT_APART.contains(&record.rtype))
        .map(|record| (record.section, owner(&answer.message, record), record.rtype, record.class, record.ttl))
        .collect();
    let row = |section| {
        move |record: &Record| {
            let (rtype, class) = (u16::from(record.record_type()), u16::from(record.dns_class));
            (section, wire_of(&record.name), rtype, class, record.ttl)
        }
    };
    let is_row = |row: &Row| !KEPT_APART.contains(&row.2);
    let sections = [
        (Section::Answer, &theirs.answers),
        (Section::Authority, &theirs.authorities),
        (Section::Additional, &theirs.additionals),
    ];
    let theirs: Vec<Row> = sections.into_iter().flat_map(|(at, all)| all.iter().map(row(at))).filter(is_row).collect();
    assert_eq!(ours, theirs);
}

/// An address, a target or a hint that a client may read in the answer section is one that is judged here.
fn all_addresses(answer: &Answer, theirs: &Message) {
    let has = |addr: IpAddr| assert!(answer.addresses.contains(&addr), "{addr} is not judged");
    let leads_to = |name: &Name| {
        let name = canonical(&wire_of(name));
        assert!(answer.chain.iter().any(|target| target.wire() == name), "{name:?} is not judged");
    };
    for record in &theirs.answers {
        match &record.data {
            RData::A(addr) => has(addr.0.into()),
            RData::AAAA(addr) => has(addr.0.into()),
            RData::CNAME(target) => leads_to(&target.0),
            RData::HTTPS(service) => service_is_judged(answer, &service.0),
            RData::SVCB(service) => service_is_judged(answer, service),
            _ => {}
        }
    }
}

fn service_is_judged(answer: &Answer, service: &hickory_proto::rr::rdata::SVCB) {
    assert!(answer.has_services);
    let target = canonical(&wire_of(&service.target_name));
    let is_root = target == [0];
    assert!(is_root || answer.targets.iter().any(|(name, _)| name.wire() == target), "{target:?} is not judged");
    for (_, value) in &service.svc_params {
        match value {
            SvcParamValue::Ipv4Hint(hints) => {
                assert!(
                    hints.0.iter().all(|hint| answer.addresses.contains(&IpAddr::V4(hint.0))),
                    "a hint is not judged"
                );
            }
            SvcParamValue::Ipv6Hint(hints) => {
                assert!(
                    hints.0.iter().all(|hint| answer.addresses.contains(&IpAddr::V6(hint.0))),
                    "a hint is not judged"
                );
            }
            SvcParamValue::EchConfigList(_) => assert!(answer.has_ech),
            _ => {}
        }
    }
}

/// Copied record by record the message holds the same records, and hickory reads the copy if it read the message.
fn rewritten(answer: &Answer) {
    let question = DomainName::from_text("here.cn").expect("a name");
    let mut writer = Writer::new(7, 0x8180, &wire::question_octets(question.as_ref(), 1, 1));
    let mut kept = Vec::new();
    for record in &answer.records {
        match writer.copy(&answer.message, record) {
            Ok(()) => kept.push(record),
            Err(WireError::BadName | WireError::Truncated) => {}
            Err(WireError::TooLarge) => panic!("a copy counts nothing"),
        }
    }
    let copy = writer.finish();
    let records = wire::records(&copy).expect("what is written can be walked");
    assert_eq!(records.len(), kept.len());
    for (copied, record) in records.iter().zip(kept) {
        assert_eq!(owner(&copy, copied), owner(&answer.message, record));
        let facts = |record: &wire::Record| (record.section, record.rtype, record.class, record.ttl);
        assert_eq!(facts(copied), facts(record));
        if matches!(record.rtype, rtype::A | rtype::AAAA | rtype::HTTPS | rtype::SVCB | 16) {
            assert_eq!(copied.data(&copy), record.data(&answer.message));
        }
        if record.rtype == rtype::CNAME {
            let target = |message: &[u8], record: &wire::Record| {
                wire::read_name(message, record.data_at).ok().map(|(name, _)| name)
            };
            assert_eq!(target(&copy, copied), target(&answer.message, record));
        }
    }
}
