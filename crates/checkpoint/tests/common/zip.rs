//! Builds zip archives and torch files byte by byte, honest or lying.

/// An entry as it will be written; the fields that a liar would change are separate from the data.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub data: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    /// In the central directory.
    pub size: u32,
    /// In the local header.
    pub local_name: String,
    /// Where the central directory says the local header is, instead of where it is.
    pub at: Option<u32>,
}

pub fn entry(name: &str, data: &[u8]) -> Entry {
    Entry {
        name: name.into(),
        data: data.into(),
        method: 0,
        flags: 0,
        size: data.len() as u32,
        local_name: name.into(),
        at: None,
    }
}

pub fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut file = vec![];
    let mut directory = vec![];
    for entry in entries {
        let at = entry.at.unwrap_or(file.len() as u32);
        let size = entry.data.len() as u32;
        file.extend(b"PK\x03\x04\x00\x00");
        file.extend(entry.flags.to_le_bytes());
        file.extend(entry.method.to_le_bytes());
        file.extend([0; 8]);
        file.extend(size.to_le_bytes());
        file.extend(size.to_le_bytes());
        file.extend((entry.local_name.len() as u16).to_le_bytes());
        file.extend([0; 2]);
        file.extend(entry.local_name.as_bytes());
        file.extend(&entry.data);
        directory.extend(b"PK\x01\x02\x00\x00\x00\x00");
        directory.extend(entry.flags.to_le_bytes());
        directory.extend(entry.method.to_le_bytes());
        directory.extend([0; 8]);
        directory.extend(entry.size.to_le_bytes());
        directory.extend(entry.size.to_le_bytes());
        directory.extend((entry.name.len() as u16).to_le_bytes());
        directory.extend([0; 12]);
        directory.extend(at.to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let offset = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\x00\x00\x00\x00");
    file.extend((entries.len() as u16).to_le_bytes());
    file.extend((entries.len() as u16).to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(offset.to_le_bytes());
    file.extend([0; 2]);
    file
}

/// A torch file of this pickle, with one storage "0" of four floats.
pub fn torch(pickle: &[u8]) -> Vec<u8> {
    zip(&torch_entries(pickle))
}

pub fn torch_entries(pickle: &[u8]) -> Vec<Entry> {
    let storage: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    vec![entry("m/data.pkl", pickle), entry("m/byteorder", b"little"), entry("m/data/0", &storage)]
}

/// Text as the opcode BINUNICODE.
pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// An integer as LONG1.
pub fn int(value: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &value.to_le_bytes()].concat()
}

pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".to_vec(), items.concat(), b"t".to_vec()].concat()
}

pub fn ints(values: &[i64]) -> Vec<u8> {
    tuple(&values.iter().map(|&value| int(value)).collect::<Vec<_>>())
}

/// A storage of floats: its persistent id.
pub fn storage(key: &str, elements: i64) -> Vec<u8> {
    let class = b"ctorch\nFloatStorage\n".to_vec();
    [tuple(&[text("storage"), class, text(key), text("cpu"), int(elements)]), b"Q".to_vec()].concat()
}

/// A tensor, as `_rebuild_tensor_v2` is asked for it.
pub fn tensor(storage: Vec<u8>, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let args = tuple(&[storage, int(offset), ints(size), ints(stride), vec![0x89], hooks]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(), args, b"R".to_vec()].concat()
}

/// A whole pickle: a dict of these.
pub fn state_dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs: Vec<u8> = entries.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"\x80\x02}(".to_vec(), pairs, b"u.".to_vec()].concat()
}

/// The pickle of one float tensor `w` of four elements.
pub fn honest() -> Vec<u8> {
    state_dict(&[("w", tensor(storage("0", 4), 0, &[2, 2], &[2, 1]))])
}
