import ReplicationCore

/// One direction on the status page.
struct DirectionCard {
    private let direction: DirectionStatus
    private let history: [LagHistory.Sample]

    init(_ direction: DirectionStatus, history: [LagHistory.Sample]) {
        self.direction = direction
        self.history = history
    }

    var html: String {
        """
        <section class="card" id="\(HTMLText.escaped(direction.name))">
        \(head)
        \(problem)
        \(copy)
        \(figures)
        \(curves)
        \(route)
        <div class="facts">
        \(latency)
        \(slot)
        \(counters)
        </div>
        </section>
        """
    }

    private var head: String {
        let ends = direction.name.components(around: "->")
        let target = ends.target == "feed" ? "change feed" : ends.target
        let state = direction.state?.rawValue ?? "no worker"
        return """
            <div class="head"><h2>\(HTMLText.escaped(ends.source)) <span class="arrow" aria-label="to">→</span> \
            \(HTMLText.escaped(target))</h2>
            <p class="state \(tone)"><i></i>\(state.replacing("_", with: " "))</p></div>
            """
    }

    /// How worried the state's colour looks.
    private var tone: String {
        switch direction.state {
        case .streaming: "good"
        case .starting, .copying, .catchingUp, .draining: "busy"
        case .paused, .reconnecting: "warn"
        case .stopped, nil: "bad"
        }
    }

    private var problem: String {
        guard let problem = direction.problem else { return "" }
        let text = HTMLText.escaped(problem).codeSpans
        return "<p class=\"callout \(direction.state == .stopped ? "bad" : "warn")\">\(text)</p>"
    }

    private var copy: String {
        guard let copy = direction.copy, direction.state == .copying else { return "" }
        var facts = [
            "\(PlainText.count(copy.tablesDone)) of \(PlainText.count(copy.tablesTotal)) tables",
            "\(PlainText.count(copy.rows)) rows", PlainText.bytes(copy.bytes),
        ]
        if let rate = copy.bytesPerSecond { facts.append("\(PlainText.bytes(rate))/s") }
        let isIndexing = copy.indexesTotal > 0
        if isIndexing {
            facts.append("\(PlainText.count(copy.indexesDone)) of \(PlainText.count(copy.indexesTotal)) indexes and constraints")
        }
        if let eta = copy.etaSeconds { facts.append("\(PlainText.seconds(eta)) left") }
        let percent = Int(max(0, min(1, isIndexing ? copy.indexFraction : copy.fraction)) * 100)
        return """
            <div class="copy"><p><strong>\(isIndexing ? "Indexes" : "Initial copy")</strong> <span>\(percent) %</span></p>
            <progress max="100" value="\(percent)">\(percent) %</progress>
            <p class="dim">\(facts.joined(separator: " · "))</p></div>
            """
    }

    private var figures: String {
        let eta = direction.etaSeconds.map { $0 == 0 ? "now" : PlainText.seconds($0) }
        let figures = [
            ("lag", direction.lagSeconds.map { PlainText.seconds($0) }),
            ("behind", direction.lagBytes.map { PlainText.bytes($0) }),
            ("rows a second", direction.rowsPerSecond.map { PlainText.rate($0) }),
            ("caught up in", eta),
        ]
        return "<div class=\"figures\">" + figures.map { Self.figure($0.0, $0.1) }.joined() + "</div>"
    }

    private static func figure(_ name: String, _ value: String?) -> String {
        guard let value else { return "<div class=\"figure\"><p>–</p><h3>\(name)</h3></div>" }
        let parts = value.split(separator: " ", maxSplits: 1)
        let unit = parts.count == 2 ? " <small>\(parts[1])</small>" : ""
        return "<div class=\"figure\"><p>\(parts[0])\(unit)</p><h3>\(name)</h3></div>"
    }

    private var curves: String {
        let lag = Curve(values: history.map(\.lagSeconds), span: LagHistory.sampleLimit, least: 0.05)
        let rate = Curve(values: history.map(\.rowsPerSecond), span: LagHistory.sampleLimit, least: 10)
        return """
            <div class="curves">
            <figure><figcaption>Lag <span>0 to \(PlainText.seconds(lag.top)), 3 min</span></figcaption>\(lag.svg)</figure>
            <figure class="second"><figcaption>Rows a second <span>0 to \(PlainText.rate(rate.top)), 3 min</span></figcaption>\
            \(rate.svg)</figure>
            </div>
            """
    }
}

// MARK: positions, slot, counters

extension DirectionCard {
    /// Where the source's log ends, what was received of it and what is applied, with the distances between.
    private var route: String {
        func stop(_ name: String, _ lsn: LSN?) -> String {
            "<div class=\"stop\"><h3>\(name)</h3><code>\(lsn?.description ?? "–")</code></div>"
        }
        func gap(_ ahead: LSN?, _ behind: LSN?) -> String {
            guard let ahead, let behind else { return "<div class=\"gap\"></div>" }
            let bytes = ahead.lagBytes(behind: behind)
            return "<div class=\"gap\(bytes > 0 ? " open" : "")\">\(bytes > 0 ? PlainText.bytes(bytes) : "")</div>"
        }
        return """
            <div class="route">\(stop("source", direction.sourceLSN))\(gap(direction.sourceLSN, direction.receivedLSN))\
            \(stop("received", direction.receivedLSN))\(gap(direction.receivedLSN, direction.appliedLSN))\
            \(stop("applied", direction.appliedLSN))</div>
            """
    }

    private var latency: String {
        let latency = direction.endToEnd
        return Self.facts(
            "End to end",
            [
                ("half within", Self.milliseconds(latency.p50Milliseconds)),
                ("95 % within", Self.milliseconds(latency.p95Milliseconds)),
                ("99 % within", Self.milliseconds(latency.p99Milliseconds)),
            ])
    }

    private var slot: String {
        var rows = [
            ("name", "<code>\(HTMLText.escaped(direction.slot))</code>"),
            ("reader", direction.isSlotActive.map { $0 ? "connected" : "none" } ?? "–"),
            ("retained WAL", direction.retainedWALBytes.map { PlainText.bytes($0) } ?? "–"),
            ("until it is lost", direction.safeWALBytes.map { PlainText.bytes($0) } ?? "no limit"),
        ]
        if let status = direction.slotStatus, status != "reserved" { rows.append(("WAL", HTMLText.escaped(status))) }
        return Self.facts("Slot", rows)
    }

    private var counters: String {
        guard let counters = direction.counters else { return "" }
        var rows = [
            ("changes", PlainText.count(counters.changes)), ("transactions", PlainText.count(counters.transactions)),
            ("stayed behind", PlainText.count(counters.withheldChanges)),
        ]
        let notable = [
            ("other tables", counters.ignoredChanges), ("missing rows", counters.missingRows),
            ("in exact order", counters.exactOrderGroups), ("reconnects", counters.reconnects),
        ]
        rows += notable.filter { $0.1 > 0 }.map { ($0.0, PlainText.count($0.1)) }
        return Self.facts("Since the start", rows)
    }

    private static func facts(_ title: String, _ rows: [(String, String)]) -> String {
        let list = rows.map { "<div><dt>\($0.0)</dt><dd>\($0.1)</dd></div>" }.joined()
        return "<div><h3>\(title)</h3><dl>\(list)</dl></div>"
    }

    private static func milliseconds(_ value: Double?) -> String { value.map { PlainText.seconds($0 / 1_000) } ?? "–" }
}

extension String {
    /// The two ends of `source->target`.
    fileprivate func components(around arrow: String) -> (source: String, target: String) {
        guard let range = self.firstRange(of: arrow) else { return (self, "") }
        return (String(self[..<range.lowerBound]), String(self[range.upperBound...]))
    }

    /// Escaped text whose `commands` are set as code.
    fileprivate var codeSpans: String {
        let parts = split(separator: "`", omittingEmptySubsequences: false)
        guard parts.count % 2 == 1 else { return self }
        return parts.enumerated().map { $0.offset % 2 == 0 ? String($0.element) : "<code>\($0.element)</code>" }.joined()
    }
}
