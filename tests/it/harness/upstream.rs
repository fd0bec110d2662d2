//! A scripted upstream: answers from a table over UDP and TCP on one port of loopback, and keeps a log of what it was asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::txt::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::dns::rtype;

/// What is answered.
#[derive(Clone, Default)]
pub struct Reply {
    /// Master-file lines of the answer section.
    pub answers: Vec<String>,
    /// Answer records of the question's name by type number and data, for types no master file can spell here.
    pub data: Vec<(u16, Vec<u8>)>,
    /// Of the authority section.
    pub authority: Vec<String>,
    /// Of the additional section.
    pub additional: Vec<String>,
    /// The code.
    pub rcode: Option<ResponseCode>,
    /// An extended error.
    pub ede: Option<(u16, String)>,
    /// Octets appended as they are after the header, in place of everything above; ID and question are filled in.
    pub raw: Option<Vec<u8>>,
    /// No answer at all.
    pub silent: bool,
    /// TC over UDP.
    pub truncated: bool,
    /// AD.
    pub authentic: bool,
}

/// One question as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    pub name: String,
    pub qtype: RecordType,
    pub checking_disabled: bool,
    pub dnssec_ok: bool,
    pub recursion_desired: bool,
    pub has_ecs: bool,
    pub over_tcp: bool,
}

#[derive(Default)]
struct Script {
    replies: HashMap<(String, RecordType), Reply>,
    log: Vec<Asked>,
    is_down: bool,
}

/// A running upstream; ends with the runtime.
#[derive(Clone)]
pub struct Upstream {
    pub addr: SocketAddr,
    script: Arc<Mutex<Script>>,
}

/// A reply with these answer lines.
pub fn records(lines: &[&str]) -> Reply {
    Reply { answers: lines.iter().map(|&line| line.to_owned()).collect(), ..Reply::default() }
}

impl Upstream {
    pub async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a UDP port");
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("an address")).await {
                break (udp, tcp);
            }
        };
        let res = Self { addr: udp.local_addr().expect("an address"), script };
        tokio::spawn(res.clone().serve_udp(udp));
        tokio::spawn(res.clone().serve_tcp(tcp));
        res
    }

    /// Answers `name` and `qtype` with `reply` from now on.
    pub fn on(&self, name: &str, qtype: &str, reply: Reply) -> &Self {
        let key = (name.to_ascii_lowercase(), rtype(qtype));
        self.script.lock().expect("the script").replies.insert(key, reply);
        self
    }

    /// Answers A or AAAA questions for `name` with these addresses.
    pub fn addresses(&self, name: &str, addresses: &[&str]) -> &Self {
        for (qtype, is_six) in [("A", false), ("AAAA", true)] {
            let lines: Vec<String> = addresses
                .iter()
                .filter(|addr| addr.contains(':') == is_six)
                .map(|addr| format!("{name}. 600 IN {qtype} {addr}"))
                .collect();
            let reply = if lines.is_empty() {
                Reply { authority: vec![format!("{name}. 60 IN SOA ns. host. 1 2 3 4 60")], ..Reply::default() }
            } else {
                Reply { answers: lines, ..Reply::default() }
            };
            self.on(name, qtype, reply);
        }
        self
    }

    /// Stops or resumes answering.
    pub fn set_down(&self, is_down: bool) {
        self.script.lock().expect("the script").is_down = is_down;
    }

    /// Everything asked so far.
    pub fn log(&self) -> Vec<Asked> {
        self.script.lock().expect("the script").log.clone()
    }

    /// How often `name` was asked for `qtype`.
    pub fn count(&self, name: &str, qtype: &str) -> usize {
        let qtype = rtype(qtype);
        self.log().iter().filter(|asked| asked.name == name && asked.qtype == qtype).count()
    }

    async fn serve_udp(self, socket: UdpSocket) {
        let mut buf = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buf).await {
            if let Some(answer) = self.answer(&buf[..length], false) {
                let _ = socket.send_to(&answer, peer).await;
            }
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let this = self.clone();
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut packet = vec![0; usize::from(length)];
                    if stream.read_exact(&mut packet).await.is_err() {
                        return;
                    }
                    let Some(answer) = this.answer(&packet, true) else { continue };
                    let length = u16::try_from(answer.len()).expect("a message");
                    if stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    fn answer(&self, packet: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(packet).expect("the gate sends well-formed questions");
        let question = query.queries.first().expect("a question").clone();
        let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let edns = query.edns.as_ref();
        let mut script = self.script.lock().expect("the script");
        script.log.push(Asked {
            name: name.clone(),
            qtype: question.query_type(),
            checking_disabled: query.metadata.checking_disabled,
            dnssec_ok: edns.is_some_and(|edns| edns.flags().dnssec_ok),
            recursion_desired: query.metadata.recursion_desired,
            has_ecs: edns.is_some_and(|edns| edns.options().as_ref().iter().any(|(code, _)| u16::from(*code) == 8)),
            over_tcp,
        });
        if script.is_down {
            return None;
        }
        let unknown = Reply {
            rcode: Some(ResponseCode::NXDomain),
            authority: vec![". 60 IN SOA ns. host. 1 2 3 4 60".to_owned()],
            ..Reply::default()
        };
        let reply = script.replies.get(&(name, question.query_type())).cloned().unwrap_or(unknown);
        if reply.silent {
            return None;
        }
        if let Some(raw) = &reply.raw {
            let end = 12 + question.name().to_ascii().len() + 1 + 4;
            let mut res = packet[..end.min(packet.len())].to_vec();
            res[2] = 0x81;
            res[3] = 0x80;
            res[6..12].copy_from_slice(&raw[..6]);
            res.extend_from_slice(&raw[6..]);
            return Some(res);
        }
        let mut res = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        res.metadata.recursion_desired = query.metadata.recursion_desired;
        res.metadata.recursion_available = true;
        res.metadata.checking_disabled = query.metadata.checking_disabled;
        // As RFC 6840 section 5.8 has it.
        let asks_for_ad = query.metadata.authentic_data || edns.is_some_and(|edns| edns.flags().dnssec_ok);
        res.metadata.authentic_data = reply.authentic && asks_for_ad;
        res.metadata.response_code = reply.rcode.unwrap_or(ResponseCode::NoError);
        res.add_query(question);
        if reply.truncated && !over_tcp {
            res.metadata.truncation = true;
            return Some(res.to_vec().expect("encodes"));
        }
        res.answers = reply.answers.iter().flat_map(|line| parse(line)).collect();
        res.answers.extend(reply.data.iter().map(|(code, data)| {
            let (code, rdata) = (RecordType::from(*code), NULL::with(data.clone()));
            Record::from_rdata(res.queries[0].name().clone(), 60, RData::Unknown { code, rdata })
        }));
        res.authorities = reply.authority.iter().flat_map(|line| parse(line)).collect();
        res.additionals = reply.additional.iter().flat_map(|line| parse(line)).collect();
        if let Some(asked) = edns {
            let mut edns = hickory_proto::op::Edns::new();
            edns.set_max_payload(1232).set_dnssec_ok(asked.flags().dnssec_ok);
            if let Some((code, text)) = &reply.ede {
                let data = [&code.to_be_bytes()[..], text.as_bytes()].concat();
                edns.options_mut().insert(EdnsOption::Unknown(15, data));
            }
            res.edns = Some(edns);
        }
        let octets = res.to_vec().expect("encodes");
        let most = edns.map_or(512, |edns| usize::from(edns.max_payload()).clamp(512, 1232));
        if over_tcp || octets.len() <= most {
            return Some(octets);
        }
        for section in [&mut res.answers, &mut res.authorities, &mut res.additionals] {
            section.clear();
        }
        res.metadata.truncation = true;
        Some(res.to_vec().expect("encodes"))
    }
}

/// One master-file line.
pub fn parse(line: &str) -> Vec<Record> {
    let (_, sets) = Parser::new(format!("{line}\n"), None, Some(Name::root())).parse().expect(line);
    sets.into_values().flat_map(|set| set.records_without_rrsigs().cloned().collect::<Vec<_>>()).collect()
}
