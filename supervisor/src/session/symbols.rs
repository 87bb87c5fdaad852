//! Names for the addresses in a crash page: the dead process was of this very binary, so our own tables fit, moved by the
//! distance between the two places the binary was loaded at.
//!
//! Resolving runs on a thread of its own and never holds anybody up; until it is done, addresses are told as offsets.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use ipc::crash::CrashRecord;
use syscalls::Sysno;

use crate::containment;

/// The name of a system call.
pub fn system_call(number: u32) -> String {
    usize::try_from(number).ok().and_then(Sysno::new).map_or_else(|| number.to_string(), |call| call.name().to_owned())
}

/// The addresses of a crash: where it happened, then what had been called.
fn addresses(record: &CrashRecord) -> Vec<u64> {
    let instruction = record.signal.as_ref().map(|signal| signal.instruction);
    instruction.into_iter().chain(record.frames.iter().copied()).collect()
}

/// The same as offsets in the binary.
pub fn offsets(record: &CrashRecord) -> Vec<String> {
    addresses(record).iter().map(|address| offset(record, *address)).collect()
}

fn offset(record: &CrashRecord, address: u64) -> String {
    match record.offset_in_module(address) {
        Some(offset) => format!("continuo+{offset:#x}"),
        // The code of programs, and of libraries.
        None => format!("{address:#x}"),
    }
}

/// Begins to find the names; they are there once the thread has finished.
pub fn resolve(record: &CrashRecord) -> Arc<OnceLock<Vec<String>>> {
    let names = Arc::new(OnceLock::new());
    if addresses(record).is_empty() {
        return names;
    }
    let (found, record) = (Arc::clone(&names), record.clone());
    let work = move || {
        let base = containment::own_base();
        let named = addresses(&record).iter().enumerate().map(|(index, address)| name(&record, base, *address, index > 0)).collect();
        let _ = found.set(named);
        give_tables_back();
    };
    // Without a thread the offsets must do.
    let _ = std::thread::Builder::new().name("symbols".to_owned()).spawn(work);
    names
}

/// Some ten MiB of tables, which the next death may be hours away from needing again.
fn give_tables_back() {
    backtrace::clear_symbol_cache();
    // The C library keeps what a thread has freed for the next thread, unless it is asked.
    // SAFETY: it may be called by any thread at any time, and takes no pointer.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The function, file and line of an address; its offset where they are not known.
fn name(record: &CrashRecord, base: u64, address: u64, is_return: bool) -> String {
    let place = offset(record, address);
    let Some(offset) = record.offset_in_module(address) else { return place };
    // A return address is behind the call, which may be the last instruction of its line.
    let here = base + offset - u64::from(is_return);
    let mut found = None;
    backtrace::resolve(here as *mut std::ffi::c_void, |symbol| {
        let Some(name) = symbol.name() else { return };
        let file = symbol.filename().map(Path::to_path_buf).zip(symbol.lineno());
        let place = file.map(|(file, line)| format!(" ({}:{line})", file.display())).unwrap_or_default();
        found.get_or_insert(format!("{name:#}{place}"));
    });
    found.map_or(place.clone(), |found| format!("{place} {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_binary_gets_its_name() {
        let base = containment::own_base();
        let here = system_call as fn(u32) -> String as usize as u64;
        // As if it had been loaded somewhere else.
        let record =
            CrashRecord { module: Some((0x10_0000, 1 << 40)), frames: vec![here - base + 0x10_0000 + 1], ..CrashRecord::default() };
        let names = resolve(&record);
        let named = names.wait();
        assert!(named[0].contains("system_call"), "{named:?}");
        assert!(offsets(&record)[0].starts_with("continuo+0x"));
    }

    #[test]
    fn system_calls_have_names() {
        assert_eq!(system_call(libc::SYS_execve as u32), "execve");
        assert_eq!(system_call(99_999), "99999");
    }
}
