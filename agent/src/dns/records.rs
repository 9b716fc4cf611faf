//! From core's records to those of the wire.

use hickory_proto::op;
use hickory_proto::rr::rdata;
use hickory_proto::rr::{Name, RData, Record as WireRecord, RecordType as WireType};
use weft_core::dns::{Record, RecordData, RecordType, ResponseCode};

/// Reads the type asked for.
pub(super) fn record_type(wire: WireType) -> RecordType {
    match wire {
        WireType::A => RecordType::A,
        WireType::AAAA => RecordType::Aaaa,
        WireType::ANY => RecordType::Any,
        WireType::AXFR | WireType::IXFR => RecordType::Axfr,
        WireType::CNAME => RecordType::Cname,
        WireType::NS => RecordType::Ns,
        WireType::PTR => RecordType::Ptr,
        WireType::SOA => RecordType::Soa,
        WireType::SRV => RecordType::Srv,
        WireType::TXT => RecordType::Txt,
        _ => RecordType::Other,
    }
}

/// Writes what an answer says about the name.
pub(super) fn response_code(code: ResponseCode) -> op::ResponseCode {
    match code {
        ResponseCode::NoError => op::ResponseCode::NoError,
        ResponseCode::NotImplemented => op::ResponseCode::NotImp,
        ResponseCode::NxDomain => op::ResponseCode::NXDomain,
        ResponseCode::ServFail => op::ResponseCode::ServFail,
    }
}

/// Writes records; one whose names do not fit the wire (a label above 63 bytes) is left out.
///
/// Records of the name asked for get it back in the case in which it was asked.
pub(super) fn write(records: &[Record], asked: &Name) -> Vec<WireRecord> {
    records.iter().filter_map(|record| write_one(record, asked)).collect()
}

fn write_one(record: &Record, asked: &Name) -> Option<WireRecord> {
    let data = match &record.data {
        RecordData::A(ip) => RData::A((*ip).into()),
        RecordData::Aaaa(ip) => RData::AAAA((*ip).into()),
        RecordData::Cname(target) => RData::CNAME(rdata::CNAME(name(target)?)),
        RecordData::Ns(server) => RData::NS(rdata::NS(name(server)?)),
        RecordData::Ptr(owner) => RData::PTR(rdata::PTR(name(owner)?)),
        RecordData::Soa(soa) => {
            // These have 32 bits without a sign on the wire; ours are far below.
            let seconds = |seconds: u32| i32::try_from(seconds).unwrap_or(i32::MAX);
            RData::SOA(rdata::SOA::new(
                name(&soa.mname)?,
                name(&soa.rname)?,
                soa.serial,
                seconds(soa.refresh),
                seconds(soa.retry),
                seconds(soa.expire),
                soa.minimum,
            ))
        }
        RecordData::Srv { priority, weight, port, target } => {
            RData::SRV(rdata::SRV::new(*priority, *weight, *port, name(target)?))
        }
        RecordData::Txt(texts) => RData::TXT(rdata::TXT::new(texts.clone())),
    };
    let mut owner = name(&record.name)?;
    if owner == *asked {
        owner = asked.clone();
    }
    Some(WireRecord::from_rdata(owner, record.ttl, data))
}

/// Reads a name of ours, which has no escapes.
fn name(text: &str) -> Option<Name> {
    let labels = text.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
    let mut name = Name::from_labels(labels).ok()?;
    name.set_fqdn(true);
    Some(name)
}
