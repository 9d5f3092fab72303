import ReplicationCore

/// Runs one stage of the core over one stream, again and again; deploy/microbench.sh counts the instructions.
///
///     microbench list                   names, and how many changes a pass has
///     microbench NAME PASSES            for instance `tpcb.plan 3`
@main struct Microbench {
    static func main() throws {
        let arguments = CommandLine.arguments
        if arguments.count == 2, arguments[1] == "list" {
            for workload in Workload.allCases {
                let changeCount = workload.stream.changeCount
                for stage in workload.stages { print("\(workload).\(stage)", changeCount) }
            }
            return
        }
        let words = arguments.count == 3 ? arguments[1].split(separator: ".").map(String.init) : []
        guard words.count == 2, let workload = Workload(rawValue: words[0]), let stage = Stage(rawValue: words[1]),
            let passes = Int(arguments[2])
        else {
            print("usage: microbench list | microbench WORKLOAD.STAGE PASSES")
            throw Misuse()
        }
        try stage.run(workload.stream, passes: passes)
    }

    struct Misuse: Error {}
}

enum Workload: String, CaseIterable {
    case tpcb, inserts, updates, hot

    var stream: RecordedStream {
        switch self {
        case .tpcb: .tpcb()
        case .inserts: .inserts()
        case .updates: .updates()
        case .hot: .hot()
        }
    }

    /// Which row an update is of makes no difference before they are netted.
    var stages: [Stage] { self == .hot ? [.plan, .encode] : Stage.allCases }
}

/// What the worker does with a change, one after the other; each is measured without those before it.
enum Stage: String, CaseIterable {
    /// Envelope and message into values in an arena.
    case decode
    /// The same, and into chunks of whole transactions.
    case assemble
    /// Ownership and netting: which rows, by which statement.
    case plan
    /// Values into the arrays that the statements take.
    case encode

    func run(_ stream: RecordedStream, passes: Int) throws {
        switch self {
        case .decode:
            for _ in 0..<passes { try CorePath.decode(stream) }
        case .assemble:
            for _ in 0..<passes { consume(try CorePath.assemble(stream)) }
        case .plan:
            let path = try CorePath(stream)
            precondition(path.plan().reduce(0) { $0 + $1.changeCount } == stream.changeCount, "a change is lost")
            for _ in 0..<passes { consume(path.plan()) }
        case .encode:
            let path = try CorePath(stream)
            let plans = path.plan()
            for _ in 0..<passes { path.encode(plans) }
        }
    }
}

/// Keeps the optimizer from leaving out work whose result nobody reads.
@inline(never) @_optimize(none) func consume<Value>(_: Value) {}
