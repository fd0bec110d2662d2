//! A connection of length-prefixed messages, over TCP or inside TLS (RFC 7766, RFC 7858).
//!
//! Queries are pipelined, and answers leave in the order they are ready (RFC 7766 section 6.2.1.1).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::handler::{Client, Gate, Taken};
use crate::drain::{DrainWatch, Phase};

/// Queries of one connection in work at a time; more wait in the socket.
const PIPELINE_MAX: usize = 64;
/// Octets of ready answers that leave in one write: a record of TLS (RFC 8446 section 5.1).
const WRITE_OCTETS: usize = 16 << 10;

/// Serves a connection until the client ends it, nothing comes for the idle time, or the drain.
pub async fn serve<S>(gate: &Arc<Gate>, stream: S, client: Client, mut drain: DrainWatch)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let idle = gate.settings().tcp_idle;
    let (mut reader, writer) = split(stream);
    let (answers, to_write) = mpsc::channel(PIPELINE_MAX);
    let writing = tokio::spawn(write_answers(writer, to_write, idle));
    let places = Arc::new(Semaphore::new(PIPELINE_MAX));
    loop {
        let packet = tokio::select! {
            packet = timeout(idle, read_message(&mut reader)) => packet,
            () = drain.reached(Phase::Draining) => break,
        };
        let Ok(Ok(packet)) = packet else { break };
        let Ok(place) = places.clone().acquire_owned().await else { break };
        match gate.take(&packet, client) {
            Taken::Answered(message) => {
                if answers.send(message).await.is_err() {
                    break;
                }
            }
            Taken::Dropped => break,
            Taken::Waiting(query) => {
                let (gate, answers) = (gate.clone(), answers.clone());
                tokio::spawn(async move {
                    let _place = place;
                    if let Some(message) = gate.resolve(&query, client).await {
                        // The connection may have ended meanwhile.
                        let _ = answers.send(message).await;
                    }
                });
            }
        }
    }
    drop(answers);
    // Answers still in work are written; each has its own deadline.
    let _ = writing.await;
}

async fn read_message<S: AsyncRead>(reader: &mut ReadHalf<S>) -> io::Result<Vec<u8>> {
    let length = reader.read_u16().await?;
    let mut res = vec![0; usize::from(length)];
    reader.read_exact(&mut res).await?;
    Ok(res)
}

/// Writes answers as they come until the last one, then ends the connection in good order.
async fn write_answers<S: AsyncWrite>(mut writer: WriteHalf<S>, mut answers: mpsc::Receiver<Vec<u8>>, idle: Duration) {
    let mut framed = Vec::new();
    while let Some(message) = answers.recv().await {
        framed.clear();
        frame(&mut framed, &message);
        while framed.len() < WRITE_OCTETS
            && let Ok(message) = answers.try_recv()
        {
            frame(&mut framed, &message);
        }
        let write = async {
            writer.write_all(&framed).await?;
            writer.flush().await
        };
        // A client that does not read is gone after the idle time.
        if !matches!(timeout(idle, write).await, Ok(Ok(()))) {
            return;
        }
        framed.shrink_to(WRITE_OCTETS);
    }
    // Inside TLS with a close_notify, so that the client knows that nothing was cut off.
    let _ = timeout(idle, writer.shutdown()).await;
}

fn frame(framed: &mut Vec<u8>, message: &[u8]) {
    let Ok(length) = u16::try_from(message.len()) else { return };
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
}
