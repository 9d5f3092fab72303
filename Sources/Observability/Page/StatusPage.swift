import ReplicationCore

/// The status page: one document without anything from elsewhere, whole on first paint, alive with its script.
struct StatusPage {
    let snapshot: StatusSnapshot
    let health: HealthReport
    let history: [String: [LagHistory.Sample]]
    /// Lets the browser run this document's own style and script, and no other.
    let nonce: String

    static func makeNonce() -> String {
        var generator = SystemRandomNumberGenerator()
        let halves = [generator.next(), generator.next()].map { String($0, radix: 16) }
        return halves.joined()
    }

    var html: String {
        """
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <title>\(HTMLText.escaped(title))</title>
        <link rel="icon" href="\(Self.icon)">
        <noscript><meta http-equiv="refresh" content="5"></noscript>
        <style nonce="\(nonce)">\(Self.asset(PackageResources.status_css))</style>
        </head>
        <body>
        <p id="away" role="status" hidden>The worker does not answer. Below is the last it said.</p>
        <div id="live">
        \(top)
        <main>
        \(callouts)
        \(snapshot.directions.map { DirectionCard($0, history: history[$0.name] ?? []).html }.joined(separator: "\n"))
        \(standbys)
        </main>
        \(foot)
        </div>
        <script nonce="\(nonce)">\(Self.asset(PackageResources.status_js))</script>
        </body>
        </html>

        """
    }

    private var title: String {
        let lag = snapshot.directions.compactMap(\.lagSeconds).max().map { PlainText.seconds($0) }
        return (health.isHealthy ? "" : "⚠ ") + "Lindero" + (lag.map { " · lag \($0)" } ?? "")
    }

    private static func asset(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    /// Two fields and the boundary stone between them.
    private static let icon =
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='7' "
        + "fill='%230f766e'/%3E%3Cpath d='M13 26V10a3 3 0 0 1 6 0v16z' fill='%23fff'/%3E%3Cpath d='M4 26h24' stroke='%23fff' "
        + "stroke-width='2.5' stroke-linecap='round'/%3E%3C/svg%3E"
}

// MARK: parts

extension StatusPage {
    private static let logo = """
        <svg class="logo" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7"/>\
        <path class="stone" d="M13 26V10a3 3 0 0 1 6 0v16z"/><path class="soil" d="M4 26h24"/></svg>
        """

    private var top: String {
        let attention = health.failures.count
        let verdict =
            switch (attention, health.warnings.count) {
            case (0, 0): ("good", "all good")
            case (0, let warnings): ("warn", warnings == 1 ? "1 warning" : "\(warnings) warnings")
            default: ("bad", attention == 1 ? "needs a person" : "\(attention) problems")
            }
        return """
            <header>
            <h1>\(Self.logo)Lindero</h1>
            <p class="chip">\(HTMLText.escaped(snapshot.backend))</p>\
            \(snapshot.phase == snapshot.backend ? "" : "<p class=\"chip\">\(HTMLText.escaped(snapshot.phase))</p>")
            <p class="verdict \(verdict.0)" role="status"><i></i>\(verdict.1)</p>
            </header>
            """
    }

    /// Problems of a direction are told in its card; here is only what has no card, and the gates.
    private var callouts: String {
        var lines = health.warnings.map { "<p class=\"callout warn\">\(HTMLText.escaped($0))</p>" }
        if snapshot.directions.isEmpty { lines.append("<p class=\"callout\">No direction is running yet.</p>") }
        return lines.joined(separator: "\n")
    }

    private var standbys: String {
        guard !snapshot.standbys.isEmpty else { return "" }
        let rows = snapshot.standbys.map { standby in
            """
            <tr><th scope="row">\(HTMLText.escaped(standby.name))</th><td>\(HTMLText.escaped(standby.state))</td>\
            <td>\(standby.lagBytes.map { PlainText.bytes($0) } ?? "–")</td>\
            <td>\(standby.lagSeconds.map { PlainText.seconds($0) } ?? "–")</td>\
            <td><code>\(standby.replayedLSN?.description ?? "–")</code></td></tr>
            """
        }
        return """
            <section class="card"><h2>Physical standbys</h2>
            <table><thead><tr><th>Name</th><th>State</th><th>Behind</th><th>Lag</th><th>Replayed</th></tr></thead>
            <tbody>\(rows.joined())</tbody></table></section>
            """
    }

    private var foot: String {
        var parts = ["Lindero \(HTMLText.escaped(snapshot.version))"]
        if let worker = snapshot.worker { parts.append("worker \(HTMLText.escaped(worker))") }
        if let uptime = snapshot.uptimeSeconds { parts.append("up \(PlainText.seconds(uptime))") }
        return """
            <footer><p>\(parts.joined(separator: " · "))</p>
            <nav><a href="/status.json">status.json</a> <a href="/metrics">metrics</a> <a href="/health">health</a></nav></footer>
            """
    }
}
