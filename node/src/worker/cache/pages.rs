//! Large memory in large pages: an index is read at random places, each of which would be a page fault
//! the first time, and a miss of the processor's table of pages every time.

#![allow(unsafe_code)]

/// Below so many bytes nothing is gained.
const BYTES_MIN: usize = 8 << 20;
/// What advice is given for is whole pages: no system that Linux runs on has larger ordinary ones.
const PAGE: usize = 64 << 10;

/// Asks the system for large pages under this memory. It may have none; then all is as it was.
pub(super) fn large<T: Copy>(memory: &mut [T]) {
    advise(memory, libc::MADV_HUGEPAGE);
}

/// Has the system give this memory now, rather than page by page when it is first used.
pub(super) fn take<T: Copy>(memory: &mut [T]) {
    advise(memory, libc::MADV_POPULATE_WRITE);
}

/// `advice` must be one that leaves what is in the memory as it is.
fn advise<T: Copy>(memory: &mut [T], advice: libc::c_int) {
    let bytes = size_of_val(memory);
    let start = memory.as_mut_ptr().cast::<u8>();
    let skew = start.addr().next_multiple_of(PAGE) - start.addr();
    if bytes < BYTES_MIN {
        return;
    }
    let whole = (bytes - skew) / PAGE * PAGE;
    // SAFETY: the range begins and ends at a page and lies within a slice that is borrowed exclusively.
    // Neither advice of this file changes what is in the memory or whether it may be read and written,
    // and nothing depends on whether it was taken.
    unsafe {
        libc::madvise(start.add(skew).cast(), whole, advice);
    }
}
