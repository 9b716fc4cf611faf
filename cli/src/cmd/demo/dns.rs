//! Asks the agent over DNS as any resolver would: one question, one UDP packet each way.
//!
//! Only what the tour shows is read (A and SRV records); `dig` is there for the rest.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use weft_runtime::net;

/// What is asked for. The numbers are those of the registry of DNS record types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    A = 1,
    Srv = 33,
}

/// What came back, as far as it is understood; other records are left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Record {
    A(Ipv4Addr),
    Srv { port: u16, target: String },
}

/// On loopback an answer that takes longer is a lost packet.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// A lost packet is sent again this often.
const TRIES: u32 = 3;

/// The largest answer over UDP without extensions is 512 bytes; room for more does no harm.
const ANSWER_BYTES_MAX: usize = 4096;

/// Asks a server; the answer section comes back, sorted. A name that does not exist has no
/// records.
pub(super) async fn ask(server: SocketAddr, name: &str, kind: Kind) -> anyhow::Result<Vec<Record>> {
    let mut last = anyhow!("not asked");
    for id in 1..=TRIES {
        match exchange(server, name, kind, id as u16).await {
            Ok(records) => return Ok(records),
            Err(error) => last = error,
        }
    }
    Err(last.context(format!("asking {server} for {name}")))
}

async fn exchange(
    server: SocketAddr,
    name: &str,
    kind: Kind,
    id: u16,
) -> anyhow::Result<Vec<Record>> {
    let socket = net::bind_udp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    socket.send_to(&question(name, kind, id)?, server).await.context("sending")?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let received = tokio::time::timeout(ANSWER_WAIT, socket.recv_from(&mut answer)).await;
    let (length, _) = received.context("no answer in time")?.context("receiving")?;
    let mut records = parse(&answer[..length], id)?;
    records.sort();
    Ok(records)
}

/// Writes a question with recursion desired, as resolvers do.
fn question(name: &str, kind: Kind, id: u16) -> anyhow::Result<Vec<u8>> {
    let mut packet = Vec::with_capacity(64);
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&[0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        ensure!((1..=63).contains(&label.len()), "{name} is not a name");
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&(kind as u16).to_be_bytes());
    packet.extend_from_slice(&1u16.to_be_bytes());
    Ok(packet)
}

/// Reads the answer section.
fn parse(packet: &[u8], id: u16) -> anyhow::Result<Vec<Record>> {
    let mut reader = Reader { packet, at: 0 };
    ensure!(reader.u16()? == id, "the answer is to another question");
    let flags = reader.u16()?;
    ensure!(flags & 0x8000 != 0, "what came back is a question");
    match flags & 0x000f {
        0 => {}
        3 => return Ok(Vec::new()),
        code => bail!("the server answered with code {code}"),
    }
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.skip(4)?;
    for _ in 0..questions {
        reader.name()?;
        reader.skip(4)?;
    }
    let mut records = Vec::with_capacity(usize::from(answers));
    for _ in 0..answers {
        reader.name()?;
        let kind = reader.u16()?;
        reader.skip(6)?;
        let length = usize::from(reader.u16()?);
        let end = reader.at + length;
        if kind == Kind::A as u16 {
            let octets: [u8; 4] = reader.bytes(4)?.try_into().context("an address")?;
            records.push(Record::A(Ipv4Addr::from(octets)));
        } else if kind == Kind::Srv as u16 {
            reader.skip(4)?;
            let port = reader.u16()?;
            records.push(Record::Srv { port, target: reader.name()? });
        }
        reader.at = end;
    }
    Ok(records)
}

/// Walks through a packet; every step is checked against its end.
struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> anyhow::Result<&'a [u8]> {
        let end = self.at + count;
        let bytes = self.packet.get(self.at..end).context("the packet ends early")?;
        self.at = end;
        Ok(bytes)
    }

    fn skip(&mut self, count: usize) -> anyhow::Result<()> {
        self.bytes(count).map(|_| ())
    }

    fn u16(&mut self) -> anyhow::Result<u16> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Reads a name, following pointers. Each pointer must lead backwards, so there is an end.
    fn name(&mut self) -> anyhow::Result<String> {
        let mut labels: Vec<String> = Vec::new();
        let mut at = self.at;
        let mut resume = None;
        loop {
            let length = usize::from(*self.packet.get(at).context("the packet ends early")?);
            if length & 0xc0 == 0xc0 {
                let low = usize::from(*self.packet.get(at + 1).context("the packet ends early")?);
                let target = (length & 0x3f) << 8 | low;
                ensure!(target < at, "a name points forwards");
                resume.get_or_insert(at + 2);
                at = target;
            } else if length == 0 {
                self.at = resume.unwrap_or(at + 1);
                return Ok(labels.join("."));
            } else {
                let label = self.packet.get(at + 1..at + 1 + length);
                let label = label.context("the packet ends early")?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                ensure!(labels.len() <= 127, "a name has too many labels");
                at += 1 + length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(answers: u8, code: u8) -> Vec<u8> {
        vec![0, 7, 0x85, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]
    }

    fn answered(record: &[u8]) -> Vec<u8> {
        let mut packet = header(1, 0);
        packet.extend_from_slice(&question("web.service.mesh", Kind::A, 7).expect("a name")[12..]);
        packet.extend_from_slice(record);
        packet
    }

    #[test]
    fn an_address_is_read() {
        let packet = answered(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
        assert_eq!(parse(&packet, 7).expect("records"), [Record::A(Ipv4Addr::LOCALHOST)]);
    }

    #[test]
    fn a_service_record_is_read_through_pointers() {
        let mut record = vec![0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 0, 0, 11, 0, 1, 0, 1, 0x1f, 0x90];
        record.extend_from_slice(&[2, b'n', b'1', 0xc0, 16]);
        let records = parse(&answered(&record), 7).expect("records");
        let target = "n1.service.mesh".to_owned();
        assert_eq!(records, [Record::Srv { port: 8080, target }]);
    }

    #[test]
    fn what_does_not_exist_has_no_records_and_other_codes_are_faults() {
        assert_eq!(parse(&header(0, 3), 7).expect("records"), []);
        assert!(parse(&header(0, 2), 7).is_err());
        assert!(parse(&header(0, 0), 8).is_err(), "another id");
    }

    #[test]
    fn broken_packets_are_refused_and_end() {
        let whole = answered(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length], 7).is_err(), "{length} bytes were enough");
        }
        let looping = answered(&[0xc0, 34, 0, 1]);
        assert!(parse(&looping, 7).is_err());
    }
}
