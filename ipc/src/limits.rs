//! Every limit that one process puts on what another one sends, in one place. Exceeding one is a typed error.

/// Frames in one audio block, the tick of the `audio` runtime type. The language's `AUDIO_BUFFER_SIZE`.
pub const BLOCK_FRAMES: usize = 128;

/// Channels a lane carries: left and right.
pub const LANE_CHANNELS: usize = 2;

/// Blocks in a lane's ring. A power of two; the lead plus the largest device period (4,096 frames = 32 blocks) must fit
/// with room to spare, so that the writer never overwrites what the mixer still reads.
pub const LANE_BLOCKS: usize = 64;

/// Lead in blocks when the session does not say otherwise: 10.7 ms at 48 kHz.
pub const DEFAULT_LEAD_BLOCKS: u32 = 4;

/// Events in a MIDI lane's ring: at the highest rate of the wire, 1,000 messages a second and port, some seconds of several
/// ports.
pub const MIDI_LANE_EVENTS: usize = 4_096;

/// Routes of one program that notes and controllers leave by, those of an edited program included as long as their notes
/// end. More than there are channels on eight ports.
pub const MAX_MIDI_ROUTES: usize = 128;

/// Messages of one request that have come in over MIDI: a block of 64 wires that are full. More go into the next request.
pub const MAX_RECEIVED: usize = 256;

/// Largest lead a session may ask for, in blocks: what remains of the ring beside the largest device period.
pub const MAX_LEAD_BLOCKS: u32 = 24;

/// Channels of a device that are played to at most: interfaces on stages have 8 or 16.
pub const MAX_DEVICE_CHANNELS: usize = 16;

/// Lanes one device host mixes at most. Far more runtimes than a performer keeps in mind, few enough for fixed tables.
pub const MAX_LANES: usize = 64;

/// Largest device period in frames that is played to; see [`LANE_BLOCKS`].
pub const MAX_PERIOD_FRAMES: usize = 4_096;

/// Sample rate in hertz when a program does not say otherwise.
pub const DEFAULT_SAMPLE_RATE_HZ: u32 = 48_000;

/// Sample rates that an audio session accepts, in hertz. Below, nothing sounds; above, no device follows.
pub const SAMPLE_RATE_RANGE_HZ: std::ops::RangeInclusive<u32> = 8_000..=384_000;

/// Ticks a second that a runtime without sound may ask for. More than this, a timer does not keep.
pub const TIMER_RATE_RANGE_HZ: std::ops::RangeInclusive<u32> = 1..=10_000;

/// Largest control message in bytes. Holds the largest source text with room for its envelope.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// Largest source text in bytes. The largest known programs are 100 KiB; a text beyond this is not one.
pub const MAX_SOURCE_BYTES: usize = 4 << 20;

/// Largest number of lines in a source text.
pub const MAX_SOURCE_LINES: usize = 200_000;

/// Deepest nesting of blocks in one module or function.
pub const MAX_NESTING: usize = 256;

/// Largest memory of one program in bytes, all memories together.
pub const MAX_PROGRAM_MEMORY_BYTES: u64 = 256 << 20;

/// Largest wasm module in bytes.
pub const MAX_WASM_BYTES: usize = 16 << 20;

/// Largest artifact segment in bytes: wasm, native code, manifest and memory image together.
pub const MAX_ARTIFACT_BYTES: usize = 512 << 20;

/// Wall-clock time one compile may take, in milliseconds. Exceeding it ends the worker.
pub const COMPILE_DEADLINE_MS: u64 = 10_000;

/// Address space the compiler-worker allows itself, in bytes: far beyond what the largest source text takes. Exceeding it
/// ends the worker.
pub const WORKER_ADDRESS_SPACE_BYTES: u64 = 4 << 30;

/// Largest binary asset in bytes that is read from a file. Longer files are read up to the size of their memory item.
pub const MAX_ASSET_BYTES: u64 = MAX_PROGRAM_MEMORY_BYTES;

/// Bytes of bulk data (memory dumps, captures) in one message.
pub const BULK_CHUNK_BYTES: usize = 256 << 10;

/// Elements that the dumps of one run show together. Worst case nine bytes each, so that they fit into one message; whole
/// memories are reported in chunks instead.
pub const MAX_DUMP_ELEMENTS: u64 = 500_000;

/// Requests for a running runtime that may wait for their ticks at a time. A performer never has more than a few on the
/// way; a replay sends its log in portions.
pub const MAX_LIVE_REQUESTS: usize = 1_024;

/// Values of one runtime that may be on a ramp at a time: far more knobs than there are hands.
pub const MAX_RAMPS: usize = 256;

/// Control wires of a session: more than anybody keeps in mind, few enough for fixed tables.
pub const MAX_WIRES: usize = 64;

/// Bytes of a program's memory up to which a trial keeps a copy of every tick's start: copying them costs some 0.2 ms at
/// most, a fraction of a block. A larger program is rolled back with what the failed tick left.
pub const MAX_SNAPSHOT_BYTES: u64 = 4 << 20;

/// Bytes of a program's memories, in whole pages, up to which every tick's start is kept, so that a tick that fails leaves
/// nothing half-written: copying takes 2 us for 64 KiB and 8 us for this much, a third of a hundredth of a block. A larger
/// program goes on with what the failed tick left. Nothing but the size decides, so that a replay does the same.
pub const MAX_KEPT_START_BYTES: u64 = 256 << 10;

/// How long a child may take from start to its handshake, in milliseconds.
pub const HANDSHAKE_DEADLINE_MS: u64 = 5_000;

/// Diagnostics reported for one compile.
pub const MAX_DIAGNOSTICS: usize = 32;
