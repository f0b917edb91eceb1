//! Whether a Kafka broker answers: the smallest question of its protocol, without any library.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The key of an `ApiVersions` request, which every broker answers before anything else.
const API_VERSIONS: i16 = 18;
const CORRELATION: i32 = 0x636f_696e;

/// Asks the servers of `KAFKA_BOOTSTRAP_SERVERS` one after the other. The first that answers will
/// do; what it said, or why none did.
pub fn probe(servers: &str, plaintext: bool) -> Result<String, String> {
    let mut problems = Vec::new();
    for server in servers.split(',').map(str::trim).filter(|server| !server.is_empty()) {
        // As Kafka takes it: a listener's name in front, and its usual port where none is named.
        let server = server.split_once("://").map_or(server, |(_, server)| server);
        let with_port = if server.contains(':') { server.to_owned() } else { format!("{server}:9092") };
        match ask(&with_port, plaintext) {
            Ok(()) if plaintext => return Ok(format!("{server} answers as Kafka does")),
            Ok(()) => {
                return Ok(format!("{server} takes connections (without TLS and a login nothing more can be asked)"));
            }
            Err(why) => problems.push(format!("{server}: {why}")),
        }
    }
    Err(if problems.is_empty() { "no server is named".to_owned() } else { problems.join("; ") })
}

fn ask(server: &str, plaintext: bool) -> Result<(), String> {
    let addresses = server.to_socket_addrs().map_err(|err| format!("not HOST:PORT that can be found ({err})"))?;
    let mut why = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) if plaintext => {
                return handshake(stream).map_err(|err| format!("it does not answer as Kafka does ({err})"));
            }
            Ok(_) => return Ok(()),
            Err(err) => why = err.to_string(),
        }
    }
    Err(why)
}

fn handshake(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let client = b"coinetl";
    let mut body = Vec::new();
    body.extend_from_slice(&API_VERSIONS.to_be_bytes());
    body.extend_from_slice(&0i16.to_be_bytes());
    body.extend_from_slice(&CORRELATION.to_be_bytes());
    body.extend_from_slice(&(client.len() as i16).to_be_bytes());
    body.extend_from_slice(client);
    stream.write_all(&(body.len() as i32).to_be_bytes())?;
    stream.write_all(&body)?;
    // Length, the number we gave, and the error code.
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    let ours = answer[4..8] == CORRELATION.to_be_bytes() && answer[8..10] == [0, 0];
    if ours {
        Ok(())
    } else {
        Err(std::io::Error::other("another protocol, or TLS is wanted: set KAFKA_SECURITY_PROTOCOL"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(answer: impl Fn([u8; 4]) -> Vec<u8> + Send + 'static) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 21];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(request[..8], [0, 0, 0, 17, 0, 18, 0, 0]);
            stream.write_all(&answer(request[8..12].try_into().unwrap())).unwrap();
        });
        address
    }

    #[test]
    fn a_broker_is_known_by_its_answer() {
        let kafka = server(|number| [&[0, 0, 0, 10], &number[..], &[0, 0, 0, 0, 0, 0]].concat());
        assert_eq!(probe(&format!("127.0.0.1:1, {kafka}"), true).unwrap(), format!("{kafka} answers as Kafka does"));
        let http = server(|_| b"HTTP/1.1 400 Bad Request\r\n".to_vec());
        assert!(probe(&http, true).unwrap_err().contains("another protocol"));
        assert!(probe("127.0.0.1:1", true).unwrap_err().contains("127.0.0.1:1: "));
        assert!(probe("PLAINTEXT://127.0.0.1:1", true).unwrap_err().contains("127.0.0.1:1: "));
        assert!(probe("no name", true).unwrap_err().contains("HOST:PORT"));
        assert!(probe(" , ", true).unwrap_err().contains("no server"));
    }
}
