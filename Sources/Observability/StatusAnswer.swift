import FlyingFox
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

    var response: HTTPResponse {
        var headers: HTTPHeaders = [
            .contentType: type, .cacheControl: "no-store", HTTPHeader("Content-Security-Policy"): policy,
            HTTPHeader("X-Content-Type-Options"): "nosniff", HTTPHeader("X-Frame-Options"): "DENY",
            HTTPHeader("Referrer-Policy"): "no-referrer", HTTPHeader("Cross-Origin-Resource-Policy"): "same-origin",
            HTTPHeader("Cross-Origin-Opener-Policy"): "same-origin",
        ]
        if status == 405 { headers[HTTPHeader("Allow")] = "GET, HEAD" }
        if status == 401 { headers[HTTPHeader("WWW-Authenticate")] = "Basic realm=\"lindero\", charset=\"UTF-8\"" }
        return HTTPResponse(statusCode: HTTPStatusCode(status, phrase: phrase), headers: headers, body: Data(body.utf8))
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
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        default: "Error"
        }
    }
}
