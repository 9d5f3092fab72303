/// Files of workers that were killed. They hold rows, so every start removes them, also one that needs no such files.
public enum LeftSpillFiles {
    /// - Parameter base: `replication.spill_dir`; where files are kept by default is looked at as well.
    public static func remove(base: String?) async { await SpillFolder.sweep(base: base) }
}
