//! Many connections that each have one small request in flight, on one thread: what a request costs the broker.

use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{Broker, Limit, Shown, measure};
use crate::batch::{Compression, Values};
use crate::stats::Latencies;
use crate::topic::Topic;
use crate::wire::{PATIENCE, ProduceFrame, check_produced, now_ms};

/// No answer to a small request is longer.
const ANSWER_BYTES: usize = 4_096;

/// One record a request.
#[derive(Clone, Debug)]
pub struct Requests {
    /// Connections, each with one request in flight.
    pub connections: usize,
    /// The size of the value.
    pub value_bytes: usize,
    /// −1 is all.
    pub acks: i16,
}

struct Client {
    stream: TcpStream,
    frame: ProduceFrame,
    correlation_id: i32,
    sent: Instant,
    answer: [u8; ANSWER_BYTES],
    filled: usize,
    idle: bool,
}

impl Client {
    fn send(&mut self) -> io::Result<()> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        self.sent = Instant::now();
        let frame = self.frame.next(self.correlation_id, None);
        // A small frame always fits into an empty socket buffer.
        let sent = self.stream.write(frame)?;
        if sent == frame.len() {
            Ok(())
        } else {
            Err(io::Error::other("a request could not be sent at once"))
        }
    }

    /// Reads what has come; true when the answer is whole.
    fn receive(&mut self) -> io::Result<bool> {
        let read = match self.stream.read(&mut self.answer[self.filled..]) {
            Ok(0) => return Err(io::Error::other("the broker has closed a connection")),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        self.filled += read;
        let Some(head) = self.answer[..self.filled].first_chunk::<4>() else { return Ok(false) };
        let length = 4 + usize::try_from(i32::from_be_bytes(*head)).map_err(io::Error::other)?;
        if length > ANSWER_BYTES {
            return Err(io::Error::other(format!("an answer of {length} bytes")));
        }
        if self.filled < length {
            return Ok(false);
        }
        check_produced(&self.answer[8..length])?;
        self.filled = 0;
        Ok(true)
    }
}

impl Requests {
    /// Runs until the limit, and measures the broker meanwhile.
    ///
    /// # Errors
    /// When the broker refuses, does not answer, or is gone.
    pub fn run(&self, broker: &Broker, topic: &Topic, limit: impl FnOnce() -> Limit) -> io::Result<Shown> {
        let mut poll = Poll::new()?;
        let mut clients = self.connect(broker, topic, &poll)?;
        measure(broker, || {
            let limit = limit();
            let start = Instant::now();
            let (requests, ack) = turn(&mut poll, &mut clients, &limit)?;
            Ok(Shown {
                seconds: start.elapsed().as_secs_f64(),
                value_bytes: requests * self.value_bytes as u64,
                batch_bytes: requests * clients.first().map_or(0, |client| client.frame.batch_bytes()),
                records: requests,
                requests,
                ack: ack.percentiles(),
                ..Shown::default()
            })
        })
    }

    fn connect(&self, broker: &Broker, topic: &Topic, poll: &Poll) -> io::Result<Vec<Client>> {
        let mut values = Values::new(0, self.value_bytes);
        (0..self.connections)
            .map(|number| {
                let batch = values.batch(1, Compression::None, now_ms())?;
                let partition = i32::try_from(number).map_err(io::Error::other)? % topic.partitions;
                let blocking = std::net::TcpStream::connect(&broker.bootstrap)?;
                blocking.set_nodelay(true)?;
                blocking.set_nonblocking(true)?;
                let mut stream = TcpStream::from_std(blocking);
                poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
                Ok(Client {
                    stream,
                    frame: ProduceFrame::new(topic.id, self.acks, &[(partition, batch)])?,
                    correlation_id: 0,
                    sent: Instant::now(),
                    answer: [0; ANSWER_BYTES],
                    filled: 0,
                    idle: true,
                })
            })
            .collect()
    }
}

fn turn(poll: &mut Poll, clients: &mut [Client], limit: &Limit) -> io::Result<(u64, Latencies)> {
    let mut events = Events::with_capacity(clients.len().max(16));
    let mut ack = Latencies::default();
    let mut requests = 0;
    for client in &mut *clients {
        client.send()?;
        client.idle = false;
    }
    let mut busy = clients.len();
    let mut last = Instant::now();
    while busy > 0 {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        let now = Instant::now();
        if events.is_empty() && now - last > PATIENCE {
            return Err(io::Error::other("no answer in time"));
        }
        for event in &events {
            last = now;
            let Some(client) = clients.get_mut(event.token().0) else { continue };
            if client.idle || !client.receive()? {
                continue;
            }
            ack.push(client.sent.elapsed());
            requests += 1;
            if limit.take(1) {
                client.send()?;
            } else {
                client.idle = true;
                busy -= 1;
            }
        }
    }
    Ok((requests, ack))
}
