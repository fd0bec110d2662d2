//! The floor of what a server over UDP can cost: every datagram goes back as it came, with the mark of an answer.
//!
//! `benches/peers/dns` starts it and loads it like the servers it compares. It prints its port, and ends when it is told to.

use std::net::UdpSocket;

use icpgate::dns::mmsg::{Answers, Batch};

fn main() {
    // Cargo adds a flag of its own when it runs benches; without a word there is nothing to do here.
    if std::env::args().nth(1).as_deref() != Some("serve") {
        println!("udp_echo: see benches/peers/dns");
        return;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    println!("{}", socket.local_addr().expect("an address").port());
    let (mut batch, mut answers) = (Batch::new(), Answers::new());
    loop {
        let Ok(count) = batch.receive(&socket) else { continue };
        for i in 0..count {
            let (octets, way) = batch.get(i);
            let mut answer = octets.to_vec();
            if let Some(flags) = answer.get_mut(2) {
                *flags |= 0x80;
            }
            answers.push(answer, way);
        }
        answers.send(&socket);
    }
}
