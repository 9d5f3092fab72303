import CLibPQ

/// How the process gives memory back: libpq's buffers, and the rows that come out of them.
public enum LargeBlocks {
    /// What is allocated in blocks larger than this goes back to the system when it is freed. At 128 kB every chunk is faulted
    /// in anew: inserts cost the worker 3.4 µs each instead of 2.0, and were 16 % slower.
    public static let leastBytes: CInt = 2 << 20

    /// Lets all threads share two heaps; glibc gives each its own, and what one has freed no other may use. A split has six
    /// threads that take turns. Heaps that are there stay.
    public static func shareHeaps() {
        #if canImport(Glibc)
            _ = mallopt(M_ARENA_MAX, 2)
        #endif
    }

    /// Makes that so, for the rest of the process. Left alone, glibc raises its own limit with every large block that is
    /// freed, up to 32 MB; buffers of several megabytes then leave holes in the heap, and a worker under a backlog grew
    /// by 79 MB where 38 were in use.
    public static func giveBack() {
        #if canImport(Glibc)
            _ = mallopt(M_MMAP_THRESHOLD, leastBytes)
            // Else glibc would give back what is free at the end of a heap from 128 kB on, and fault it in again.
            _ = mallopt(M_TRIM_THRESHOLD, 2 * leastBytes)
        #endif
    }
}
