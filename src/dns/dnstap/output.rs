//! The far end of the queue: opens the target, writes what waits in batches, opens it again when it breaks.
//!
//! A reader that is gone, slow or not there yet costs frames, which are counted, and nothing else.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, empty, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Frames;
use super::frames::{Control, FrameError, control, expect};
use super::message::CONTENT_TYPE;
use crate::dns::Counters;
use crate::dns::settings::{Dnstap, DnstapTarget};

/// Frames of one write.
const BATCH_MAX: usize = 512;
/// Pause before a target that could not be opened, or broke, is opened again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often a file's name is looked for: one that was moved away is begun anew.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time for a connection with its handshake, and for a write: a reader that takes longer is taken for gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for what waits, and for the reader's last word, when the gate ends.
pub const LAST_WORDS: Duration = Duration::from_secs(3);

/// A target cannot be written.
#[derive(Debug, Error)]
enum OutputError {
    /// The reader, or the way to it.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It ended the connection.
    #[error("the reader ended the connection")]
    Gone,
    /// The system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nothing happened for [`PATIENCE`].
    #[error("the reader does not answer")]
    Slow,
}

/// Where frames go, and what comes back.
struct Stream {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// What the reader says; nothing for files.
    reader: Box<dyn AsyncRead + Send + Unpin>,
    is_file: bool,
}

/// How the service of one stream ended.
enum Ended {
    /// There are no more frames.
    Done,
    /// The file was moved away.
    Moved,
}

/// What writes frames, before it runs.
pub struct Output {
    settings: Dnstap,
    frames: Frames,
    counters: Arc<Counters>,
    ended: oneshot::Receiver<()>,
    is_ending: bool,
    /// True once a failure was logged, until a stream is open.
    is_failing: bool,
}

impl Output {
    /// The output of `frames`, until something comes out of `ended` or its other end is dropped.
    pub fn new(settings: Dnstap, frames: Frames, counters: Arc<Counters>, ended: oneshot::Receiver<()>) -> Self {
        Self { settings, frames, counters, ended, is_ending: false, is_failing: false }
    }

    /// Writes until the end, then what waits.
    pub async fn run(mut self) {
        loop {
            let served = match self.open().await {
                Ok(stream) => self.serve(stream).await,
                Err(error) => Err(error),
            };
            match served {
                Ok(Ended::Done) => return,
                Ok(Ended::Moved) => continue,
                Err(error) => self.failed(&error),
            }
            if self.is_ending {
                break;
            }
            tokio::select! {
                () = sleep(RETRY_EVERY) => {}
                _ = &mut self.ended => break,
            }
        }
        self.frames.close();
        self.counters.dnstap_dropped.add(self.frames.len() as u64);
    }

    fn failed(&mut self, error: &OutputError) {
        self.counters.dnstap_errors.increment();
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(%error, target = %self.settings.to, "dnstap cannot be written, frames are lost");
        }
    }

    async fn open(&mut self) -> Result<Stream, OutputError> {
        let opened = timeout(PATIENCE, open(&self.settings.to)).await.unwrap_or(Err(OutputError::Slow))?;
        self.counters.dnstap_opened.increment();
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(target = %self.settings.to, "dnstap is written again");
        }
        Ok(opened)
    }

    /// Writes to one stream until it breaks or there is nothing more.
    async fn serve(&mut self, mut stream: Stream) -> Result<Ended, OutputError> {
        let _up = self.counters.dnstap_up.enter();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut batch, mut octets, mut said) = (Vec::new(), Vec::new(), [0; 64]);
        loop {
            tokio::select! {
                count = self.frames.receive(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        finish(stream).await?;
                        return Ok(Ended::Done);
                    }
                }
                // A reader has nothing to say before the end but that it is gone.
                _ = stream.reader.read(&mut said), if !stream.is_file => return Err(OutputError::Gone),
                _ = looks.tick(), if stream.is_file => {
                    if is_gone(&self.settings.to).await {
                        finish(stream).await?;
                        return Ok(Ended::Moved);
                    }
                }
                _ = &mut self.ended, if !self.is_ending => {
                    self.is_ending = true;
                    self.frames.close();
                }
            }
            octets.clear();
            batch.iter().for_each(|frame| octets.extend_from_slice(frame));
            let count = batch.drain(..).len() as u64;
            if count > 0 {
                let written = write(&mut stream, &octets).await;
                let counter =
                    if written.is_ok() { &self.counters.dnstap_written } else { &self.counters.dnstap_dropped };
                counter.add(count);
                written?;
            }
        }
    }
}

async fn write(stream: &mut Stream, octets: &[u8]) -> Result<(), OutputError> {
    let writing = async {
        stream.writer.write_all(octets).await?;
        stream.writer.flush().await
    };
    timeout(PATIENCE, writing).await.map_err(|_| OutputError::Slow)?.map_err(OutputError::Io)
}

/// Ends a stream in good order.
async fn finish(mut stream: Stream) -> Result<(), OutputError> {
    write(&mut stream, &control(Control::Stop, None)).await?;
    if !stream.is_file {
        let last = expect(&mut stream.reader, Control::Finish, CONTENT_TYPE);
        timeout(LAST_WORDS, last).await.map_err(|_| OutputError::Slow)??;
    }
    Ok(())
}

/// Opens a target up to START.
async fn open(to: &DnstapTarget) -> Result<Stream, OutputError> {
    let mut res = match to {
        DnstapTarget::File(path) => {
            let writer = Box::new(begin_file(path).await?);
            Stream { writer, reader: Box::new(empty()), is_file: true }
        }
        DnstapTarget::Tcp(addr) => of_socket(TcpStream::connect(addr).await?),
        DnstapTarget::Unix(path) => of_socket(UnixStream::connect(path).await?),
    };
    if !res.is_file {
        write(&mut res, &control(Control::Ready, Some(CONTENT_TYPE))).await?;
        expect(&mut res.reader, Control::Accept, CONTENT_TYPE).await?;
    }
    write(&mut res, &control(Control::Start, Some(CONTENT_TYPE))).await?;
    Ok(res)
}

fn of_socket<S: AsyncRead + AsyncWrite + Send + 'static>(socket: S) -> Stream {
    let (reader, writer) = split(socket);
    Stream { writer: Box::new(writer), reader: Box::new(reader), is_file: false }
}

/// A new file. Frames cannot be appended to a stream that was ended: one that is there already is kept beside it.
async fn begin_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    match options.open(path).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut old = path.as_os_str().to_owned();
            old.push(".old");
            fs::rename(path, old).await?;
            options.open(path).await
        }
        begun => begun,
    }
}

/// True when a file's name leads to nothing any more. A file of somebody else's there is none of ours to replace.
async fn is_gone(to: &DnstapTarget) -> bool {
    match to {
        DnstapTarget::File(path) => matches!(fs::try_exists(path).await, Ok(false)),
        DnstapTarget::Tcp(_) | DnstapTarget::Unix(_) => false,
    }
}
