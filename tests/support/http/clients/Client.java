// Java's own client of HTTP/2, at the real program: see test_http2_clients.py.
//
//   java -Djdk.net.hosts.file=HOSTS Client.java PORT CA
//
// Prints what it saw as JSON.

import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.util.HexFormat;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Client {
  private final HttpClient client;
  private final String site;

  private Client(String port, String ca) throws Exception {
    KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
    trusted.load(null, null);
    try (InputStream pem = Files.newInputStream(Path.of(ca))) {
      trusted.setCertificateEntry(
          "ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
    }
    TrustManagerFactory managers =
        TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    managers.init(trusted);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, managers.getTrustManagers(), null);
    client = HttpClient.newBuilder().sslContext(context).version(HttpClient.Version.HTTP_2).build();
    site = "https://a.test:" + port;
  }

  private HttpRequest.Builder to(String path) {
    return HttpRequest.newBuilder(URI.create(site + path));
  }

  private static String digest(byte[] data) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(data));
  }

  private String saw() throws Exception {
    // The first answer settles that the connection is HTTP/2's; all others share it.
    HttpResponse<String> first = client.send(to("/app/first").build(), BodyHandlers.ofString());
    var asked =
        IntStream.range(0, 100)
            .mapToObj(
                n -> client.sendAsync(to("/app/page-" + n).build(), BodyHandlers.ofString()))
            .toList();
    CompletableFuture.allOf(asked.toArray(CompletableFuture[]::new)).join();
    long pages =
        IntStream.range(0, 100)
            .filter(n -> asked.get(n).join().body().equals("/app/page-" + n))
            .count();

    byte[] large = new byte[5_000_000];
    HttpRequest post = to("/app/digest").POST(BodyPublishers.ofByteArray(large)).build();
    boolean upload = client.send(post, BodyHandlers.ofString()).body().equals(digest(large));

    HttpRequest all = to("/app/bytes?size=20000000").build();
    String download = digest(client.send(all, BodyHandlers.ofByteArray()).body());

    HttpRequest head = to("/").method("HEAD", BodyPublishers.noBody()).build();
    String length =
        client.send(head, BodyHandlers.discarding()).headers().firstValue("content-length").get();

    // Given up in the middle; the connection goes on.
    HttpRequest events = to("/app/events?count=100000&pause=0.01").build();
    try (InputStream body = client.send(events, BodyHandlers.ofInputStream()).body()) {
      body.read();
    }
    HttpResponse<String> after = client.send(to("/app/after").build(), BodyHandlers.ofString());

    return String.format(
        "{\"version\": \"%s\", \"pages\": %d, \"upload\": %b, \"download\": \"%s\","
            + " \"head\": \"%s\", \"after\": \"%s\"}",
        first.version(), pages, upload, download, length, after.body());
  }

  public static void main(String[] words) throws Exception {
    System.out.println(new Client(words[0], words[1]).saw());
  }
}
