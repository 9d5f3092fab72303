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
    case tpcb, inserts, updates, hot, shared, echo

    var stream: RecordedStream {
        switch self {
        case .tpcb: .tpcb()
        case .inserts: .inserts()
        case .updates: .updates()
        case .hot: .hot()
        case .shared: .shared()
        case .echo: .echo()
        }
    }

    /// Which row an update is of makes no difference before they are netted.
    var stages: [Stage] {
        switch self {
        case .tpcb, .inserts, .updates: [.decode, .assemble, .plan, .encode]
        case .hot: [.plan, .encode]
        case .shared: [.assemble, .operations, .sort]
        case .echo: [.assemble]
        }
    }
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
    /// Of a split: changes into operations, what both sides have to know of them, and its end.
    case operations
    /// Of a split: operations into changes that write what they changed.
    case sort

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
        case .operations:
            let chunks = try CorePath.assemble(stream)
            for _ in 0..<passes { consume(try CorePath.operations(chunks)) }
        case .sort:
            let chunks = try CorePath.assemble(stream)
            let transactions = try CorePath.operations(chunks)
            for _ in 0..<passes { try CorePath.sort(chunks, transactions) }
        case .encode:
            let path = try CorePath(stream)
            let plans = path.plan()
            for _ in 0..<passes { path.encode(plans) }
        }
    }
}

/// Keeps the optimizer from leaving out work whose result nobody reads.
@inline(never) @_optimize(none) func consume<Value>(_: Value) {}
