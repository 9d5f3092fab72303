import Foundation
import ReplicationCore

/// An answer before it is put on the wire, with the headers that every answer has.
struct StatusAnswer {
    var status = 200
    var type: String
    var body: String
    /// What a browser may load and do with it.
    var policy = "default-src 'none'; frame-ancestors 'none'"

    static func text(_ text: String, type: String) -> StatusAnswer { StatusAnswer(type: type, body: text) }

    static func json(_ document: ReplicationCore.JSONValue) -> StatusAnswer {
        StatusAnswer(type: "application/json", body: document.text + "\n")
    }

    static func page(_ html: String, nonce: String) -> StatusAnswer {
        let policy = """
            default-src 'none'; script-src 'nonce-\(nonce)'; style-src 'nonce-\(nonce)'; img-src data:; \
            connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'
            """
        return StatusAnswer(type: "text/html; charset=utf-8", body: html, policy: policy)
    }

    static func refusal(_ status: Int, _ reason: String) -> StatusAnswer {
        StatusAnswer(status: status, type: "text/plain; charset=utf-8", body: reason + "\n")
    }

    /// As it goes over the wire. The connection ends with it.
    func bytes(withBody hasBody: Bool = true) -> [UInt8] {
        let content = Array(body.utf8)
        var lines = [
            "HTTP/1.1 \(status) \(phrase)", "Content-Type: \(type)", "Content-Length: \(content.count)", "Connection: close", "Cache-Control: no-store",
            "Content-Security-Policy: \(policy)", "X-Content-Type-Options: nosniff", "X-Frame-Options: DENY", "Referrer-Policy: no-referrer",
            "Cross-Origin-Resource-Policy: same-origin", "Cross-Origin-Opener-Policy: same-origin",
        ]
        if status == 405 { lines.append("Allow: GET, HEAD") }
        if status == 401 { lines.append("WWW-Authenticate: Basic realm=\"lindero\", charset=\"UTF-8\"") }
        return Array((lines + ["", ""]).joined(separator: "\r\n").utf8) + (hasBody ? content : [])
    }

    private var phrase: String {
        switch status {
        case 200: "OK"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 421: "Misdirected Request"
        case 431: "Request Header Fields Too Large"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        default: "Error"
        }
    }
}
