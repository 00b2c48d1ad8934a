//! The topic of purchases as the brokers have it: logs of records of every kind, in lives and leader epochs.

use std::collections::{BTreeMap, BTreeSet};

use management_api::letter::{DeadLetter, Original, Sending, borrowed, is_own_header};
use rand::RngExt;
use rand::rngs::StdRng;
use shared::api_keys::API_KEY_HEADER;
use shared::event::{Purchase, RecordPosition, Timestamp, decode_record};
use shared::kafka::{OwnedRecord, RecordHeader};
use tokio::time::Instant;
use uuid::Uuid;

use crate::world::Mode;

/// The time of the first record, in milliseconds since 1970, and how long after it the next one is: keys buy on many days.
const FIRST_TIME_MS: i64 = 1_700_000_000_000;
const STEP_MS: i64 = 3_600_000;

/// Whose rows the database refuses.
pub const REFUSED_USER: &str = "mallory";

/// What must become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A row of this purchase.
    Row(u32),
    /// A dead letter, and no row.
    DeadLetter,
}

/// A record that was ever written.
pub struct Written {
    /// What must become of it.
    pub fate: Fate,
    /// Where it first stood: one that was sent back has stood elsewhere before.
    original: Original,
    record: OwnedRecord,
}

/// What stands at an offset.
pub struct Entry {
    /// The leader's epoch.
    pub epoch: i32,
    /// The record's number; nothing for a mark of a transaction.
    pub number: Option<u32>,
    /// The record.
    pub record: OwnedRecord,
    /// The id that it brings along, if other records may repeat it.
    id: Option<Uuid>,
}

/// A partition.
#[derive(Default)]
pub struct Log {
    /// From offset 0 on.
    pub entries: Vec<Entry>,
    /// The leader's epoch.
    pub epoch: i32,
    /// What stands here cannot be read before the time.
    pub unreadable: Option<(i64, Instant)>,
}

/// The topic, and what must become of every record that was ever in it.
pub struct Topic {
    /// How often it was made anew.
    pub incarnation: u32,
    /// Its partitions.
    pub logs: Vec<Log>,
    /// By the records' numbers.
    pub written: Vec<Written>,
    /// The numbers of the records of each dead letter: as it first stood, and as it was sent back, one time after the other.
    letters: BTreeMap<Uuid, Vec<u32>>,
    /// Dead letters that were mended before they were sent back.
    mended: BTreeSet<Uuid>,
    /// Purchases that stand in the topic more than once: one record's offset may move while another still stands for it.
    repeated: BTreeSet<u32>,
    mode: Mode,
}

impl Log {
    /// The next offset.
    pub fn end(&self) -> i64 {
        i64::try_from(self.entries.len()).unwrap_or(i64::MAX)
    }

    /// The entry at an offset.
    pub fn entry(&self, offset: i64) -> Option<&Entry> {
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The first offset that is not of the history in which a record of this epoch was read.
    pub fn end_of_epoch(&self, epoch: i32) -> i64 {
        let newer = self.entries.iter().position(|entry| entry.epoch > epoch);
        newer.and_then(|offset| i64::try_from(offset).ok()).unwrap_or(self.end())
    }

    /// How far the log reaches up to a stored offset, as far as its epoch tells.
    pub fn reached(&self, offset: i64, epoch: Option<i32>) -> i64 {
        offset.min(epoch.map_or(self.end(), |epoch| self.end_of_epoch(epoch)))
    }
}

impl Topic {
    /// A topic without records.
    pub fn new(partitions: usize, mode: Mode) -> Self {
        Self {
            incarnation: 0,
            logs: (0..partitions).map(|_| Log::default()).collect(),
            written: Vec::new(),
            letters: BTreeMap::new(),
            mended: BTreeSet::new(),
            repeated: BTreeSet::new(),
            mode,
        }
    }

    /// Whether another record may still stand for this one's purchase.
    pub fn is_repeated(&self, number: u32) -> bool {
        matches!(self.written[number as usize].fate, Fate::Row(purchase) if self.repeated.contains(&purchase))
    }

    /// Whether a row says what some record of this purchase says.
    pub fn is_row_of(&self, number: u32, row: &Purchase) -> bool {
        let of_purchase = self.written.iter().filter(|written| written.fate == Fate::Row(number));
        of_purchase.into_iter().any(|written| written.is_stored_as(row))
    }

    /// Whether some record of this purchase names this key, or none where it is none.
    pub fn is_bought_by(&self, number: u32, key_id: Option<Uuid>) -> bool {
        self.written.iter().any(|written| written.fate == Fate::Row(number) && written.key_id() == key_id)
    }

    /// The record that a dead letter is of, and whether it says what that says.
    pub fn find_letter(&self, letter: &DeadLetter) -> Option<(u32, bool)> {
        let number = *self.letters.get(&letter.original.id())?.get(letter.redrive as usize)?;
        Some((number, self.written[number as usize].is_set_aside_as(letter)))
    }

    /// Which records stand for a dead letter: of several with one id and the same content in a batch the first alone is asked
    /// about, so for one that the database decides on, any that is the same dead letter.
    pub fn stand_ins(&self, number: u32) -> Vec<u32> {
        let written = &self.written[number as usize];
        let letters = self.letters.get(&written.original.id()).filter(|_| written.decode(Timestamp::now()).is_some());
        letters.cloned().unwrap_or_else(|| vec![number])
    }

    /// Its life's name.
    pub fn name(&self) -> String {
        format!("life-{}", self.incarnation)
    }

    /// Deletes it and makes it again.
    pub fn make_anew(&mut self) {
        self.incarnation += 1;
        self.logs.iter_mut().for_each(|log| *log = Log::default());
    }

    /// A partition's brokers lose its last records, and another leader takes over.
    pub fn cut(&mut self, partition: usize, records: usize) {
        let log = &mut self.logs[partition];
        log.entries.truncate(log.entries.len().saturating_sub(records));
        log.epoch += 1;
        log.unreadable = None;
    }

    /// Writes a record of some kind. Gives the purchase id of one that will surely be recorded under it.
    pub fn write(&mut self, partition: usize, rng: &mut StdRng) -> Option<Uuid> {
        let number = self.next_number();
        let fresh = Uuid::from_u128((0x0190_a5c2_0000_7000_8000_u128 << 48) | u128::from(number));
        let mut record = self.next_record(partition);
        // In a log that may be cut it is the time that tells apart what stood at one place.
        if self.mode != Mode::Cut && rng.random_ratio(1, 6) {
            record.timestamp_ms = None;
        }
        if rng.random_ratio(1, 10) {
            record.headers.push((b"caf\xe9".to_vec(), Some(vec![0xff])));
        }
        let user = format!("u{}", number % 5);
        let (fate, value, id) = match rng.random_range(0..100) {
            0..9 => return self.mark(partition),
            9..45 => (Fate::Row(number), purchase(Some(fresh), &user, number, number), Some(fresh)),
            45..67 => (Fate::Row(number), purchase(None, &user, number, number), None),
            67..76 => match self.any_id(rng) {
                Some((id, first)) => {
                    self.repeated.insert(first);
                    (Fate::Row(first), purchase(Some(id), &format!("u{}", first % 5), first, first), None)
                }
                None => (Fate::Row(number), purchase(None, &user, number, number), None),
            },
            76..84 => match self.id_in(partition, rng) {
                Some((id, _)) => (Fate::DeadLetter, purchase(Some(id), &user, number, number), None),
                None => (Fate::DeadLetter, format!("not json {number}").into_bytes(), None),
            },
            84..90 => (Fate::DeadLetter, purchase(Some(fresh), REFUSED_USER, number, number), None),
            90..93 => (Fate::DeadLetter, Vec::new(), None),
            _ => (Fate::DeadLetter, format!(r#"{{"userid":"{user}","price":-{number}}}"#).into_bytes(), None),
        };
        record.value = (!value.is_empty()).then_some(value);
        let original = Original {
            incarnation: self.name().into(),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
        };
        let mut written = Written { fate, original, record };
        if rng.random_ratio(1, 8) {
            self.forge(&mut written.record, rng);
        }
        self.letters.insert(written.original.id(), vec![number]);
        self.push(partition, written, id);
        id
    }

    /// A record says that it is a dead letter that comes back, and is not.
    fn forge(&self, record: &mut OwnedRecord, rng: &mut StdRng) {
        if let Some(other) = self.written.get(rng.random_range(0..self.written.len().max(1))) {
            claim(record, &other.original, rng.random_range(1..4));
        }
    }

    /// Whether an operator has sent back a dead letter with this content.
    pub fn was_sent_back(&self, sending: &Sending) -> bool {
        let sent = self.letters.get(&sending.letter_id).and_then(|letters| letters.get(1..)).unwrap_or_default();
        sent.iter().any(|number| {
            let OwnedRecord { key, value, headers, .. } = &self.written[*number as usize].record;
            Sending::new(sending.letter_id, key.as_deref(), value.as_deref(), borrowed(headers)) == *sending
        })
    }

    /// An operator sends the dead letter back that this record has become: mended, or as it is if that is surely poison
    /// still. Of two purchases with one id the first that is stored stays, and that may not have happened yet.
    pub fn send_back(&mut self, dead: u32, partition: usize, rows: &BTreeMap<Uuid, Purchase>, rng: &mut StdRng) {
        let original = self.written[dead as usize].original.clone();
        let Some(letters) = self.letters.get(&original.id()).filter(|_| !self.mended.contains(&original.id())) else {
            return;
        };
        let (number, redrive) = (self.next_number(), letters.len());
        let first = &self.written[letters[0] as usize].record;
        let OwnedRecord { key, value, headers, .. } = first.clone();
        let mut record = OwnedRecord { key, value, headers, ..self.next_record(partition) };
        record.headers.retain(|(name, _)| !is_own_header(name));
        claim(&mut record, &original, redrive);
        self.letters.entry(original.id()).or_default().push(number);
        let decoded = self.written[dead as usize].decode(Timestamp::now());
        let is_poison = decoded.is_none_or(|it| it.userid == REFUSED_USER || rows.contains_key(&it.purchase_id));
        let mut fate = Fate::DeadLetter;
        if !is_poison || rng.random_ratio(1, 2) {
            self.mended.insert(original.id());
            fate = Fate::Row(number);
            record.value = Some(purchase(None, &format!("u{}", number % 5), number, number));
        }
        self.push(partition, Written { fate, original, record }, None);
    }

    fn next_number(&self) -> u32 {
        u32::try_from(self.written.len()).unwrap_or(u32::MAX)
    }

    /// The frame of the next record: its key tells its number, and so does its time.
    fn next_record(&self, partition: usize) -> OwnedRecord {
        let number = self.next_number();
        OwnedRecord {
            partition: i32::try_from(partition).unwrap_or(0),
            offset: self.logs[partition].end(),
            leader_epoch: Some(self.logs[partition].epoch),
            key: Some(number.to_string().into_bytes()),
            timestamp_ms: Some(FIRST_TIME_MS + STEP_MS * i64::from(number)),
            headers: bought_by(number),
            ..OwnedRecord::default()
        }
    }

    fn push(&mut self, partition: usize, written: Written, id: Option<Uuid>) {
        let number = Some(self.next_number());
        let log = &mut self.logs[partition];
        log.entries.push(Entry { epoch: log.epoch, number, record: written.record.clone(), id });
        self.written.push(written);
    }

    /// A mark of somebody's transaction: an offset without a record.
    fn mark(&mut self, partition: usize) -> Option<Uuid> {
        let log = &mut self.logs[partition];
        log.entries.push(Entry { epoch: log.epoch, number: None, record: OwnedRecord::default(), id: None });
        None
    }

    fn any_id(&self, rng: &mut StdRng) -> Option<(Uuid, u32)> {
        self.id_in(rng.random_range(0..self.logs.len()), rng)
    }

    /// An id that a record of this partition has brought along, and its number.
    fn id_in(&self, partition: usize, rng: &mut StdRng) -> Option<(Uuid, u32)> {
        let entries = &self.logs[partition].entries;
        let entry = entries.get(rng.random_range(0..entries.len().max(1)))?;
        Some((entry.id?, entry.number?))
    }
}

impl Written {
    /// The purchase that it brings, if it does; read at a time that counts if it has none.
    fn decode(&self, read_at: Timestamp) -> Option<Purchase> {
        let Original { incarnation, partition, offset, timestamp_ms } = &self.original;
        let (partition, offset, timestamp_ms) = (*partition, *offset, *timestamp_ms);
        let position = RecordPosition { incarnation, partition, offset, timestamp_ms };
        let time = timestamp_ms.or(self.record.timestamp_ms).and_then(Timestamp::from_millis).unwrap_or(read_at);
        decode_record(self.record.value.as_deref(), position, time).ok().map(|decoded| decoded.purchase)
    }

    /// The key that it names.
    fn key_id(&self) -> Option<Uuid> {
        let named = self.record.headers.iter().rfind(|(name, _)| name == API_KEY_HEADER.as_bytes())?;
        str::from_utf8(named.1.as_deref()?).ok()?.parse().ok()
    }

    fn is_stored_as(&self, row: &Purchase) -> bool {
        self.decode(row.timestamp).as_ref() == Some(row)
    }

    fn is_set_aside_as(&self, letter: &DeadLetter) -> bool {
        let OwnedRecord { key, value, headers, .. } = &self.record;
        let headers = headers.iter().filter(|(name, _)| !is_own_header(name));
        letter.original == self.original
            && (&letter.key, &letter.value) == (key, value)
            && letter.headers.iter().eq(headers)
    }
}

/// Who bought it: one of three keys, nobody, or what is no key.
fn bought_by(number: u32) -> Vec<RecordHeader> {
    let key = match number % 8 {
        0..3 => return Vec::new(),
        3 => b"till 7".to_vec(),
        _ => Uuid::from_u128(u128::from(number % 3)).to_string().into_bytes(),
    };
    vec![(API_KEY_HEADER.as_bytes().to_vec(), Some(key))]
}

/// The headers of a dead letter that is sent back.
fn claim(record: &mut OwnedRecord, original: &Original, redrive: usize) {
    for (name, value) in [
        ("original_incarnation", original.incarnation.to_string()),
        ("original_partition", original.partition.to_string()),
        ("original_offset", original.offset.to_string()),
        ("original_timestamp", original.timestamp_ms.unwrap_or(-1).to_string()),
        ("dead_letter_redrive", redrive.to_string()),
    ] {
        record.headers.push((name.as_bytes().to_vec(), Some(value.into_bytes())));
    }
}

/// A purchase as JSON; its name tells which it is, its price what it holds.
fn purchase(id: Option<Uuid>, userid: &str, number: u32, price: u32) -> Vec<u8> {
    let id = id.map(|id| format!(r#""purchase_id":"{id}","#)).unwrap_or_default();
    format!(r#"{{{id}"userid":"{userid}","username":"n{number}","price":{}}}"#, price + 1).into_bytes()
}
