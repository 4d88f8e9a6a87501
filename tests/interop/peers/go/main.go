// Command go-peer is Go's own crypto/tls as a peer of Q-TLS, as a client and as a server.
//
//	go-peer client [flags] ADDRESS…  one connection each, or with -resume a second one; an HTTP request with -get
//	go-peer server [flags]           prints {"listening": PORT}, then one line of JSON for each connection
//	go-peer load [flags] ADDRESS     handshakes and transfers with an echo until standard input ends, then a report
//	go-peer version                  the version of Go
//
// Both print what crypto/tls says was negotiated, as one JSON object a line. Failures go to standard error, exit code 1.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"time"
)

const timeout = 20 * time.Second

var groups = map[string]tls.CurveID{
	"X25519MLKEM768":     tls.X25519MLKEM768,
	"SecP256r1MLKEM768":  tls.SecP256r1MLKEM768,
	"SecP384r1MLKEM1024": tls.SecP384r1MLKEM1024,
	"x25519":             tls.X25519,
	"secp256r1":          tls.CurveP256,
	"secp384r1":          tls.CurveP384,
}

type options struct {
	ca, cert, key, groups, alpn, serverName, get string
	resume, requireClient                        bool
	handshakers, transferrers, chunks            int
}

type facts struct {
	Version    string `json:"version"`
	Group      string `json:"group"`
	Scheme     string `json:"scheme"`
	Suite      string `json:"suite"`
	ALPN       string `json:"alpn"`
	ServerName string `json:"server_name"`
	Resumed    bool   `json:"resumed"`
	HRR        bool   `json:"hello_retry_request"`
	Peer       string `json:"peer"`
	Body       string `json:"body,omitempty"`
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: go-peer client|server|load|version"))
	}
	var opts options
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	flags.StringVar(&opts.ca, "ca", "", "PEM file with the trust anchors")
	flags.StringVar(&opts.cert, "cert", "", "PEM file with the own chain")
	flags.StringVar(&opts.key, "key", "", "PEM file with the own key")
	flags.StringVar(&opts.groups, "groups", "", "groups, separated by commas; crypto/tls orders them itself")
	flags.StringVar(&opts.alpn, "alpn", "", "ALPN protocols, separated by commas")
	flags.StringVar(&opts.serverName, "server-name", "", "server name to send and to verify")
	flags.StringVar(&opts.get, "get", "", "path to request over HTTP/1.1")
	flags.BoolVar(&opts.resume, "resume", false, "connect to one address twice, or to several, each time with the session of the one before")
	flags.BoolVar(&opts.requireClient, "require-client", false, "require a certificate of the client")
	flags.IntVar(&opts.handshakers, "handshakers", 2, "load: how many make handshakes, one after the other")
	flags.IntVar(&opts.transferrers, "transferrers", 1, "load: how many make transfers, one after the other")
	flags.IntVar(&opts.chunks, "chunks", 300, "load: how many chunks of 64 KiB a transfer has, 10 ms apart")
	if err := flags.Parse(os.Args[2:]); err != nil {
		fail(err)
	}
	switch os.Args[1] {
	case "client":
		fail(runClient(opts, flags.Args()))
	case "server":
		fail(runServer(opts))
	case "load":
		fail(runLoad(opts, flags.Arg(0)))
	case "version":
		fmt.Println(runtime.Version())
	default:
		fail(fmt.Errorf("unknown command %q", os.Args[1]))
	}
}

func (o options) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: o.serverName}
	for _, name := range list(o.groups) {
		group, known := groups[name]
		if !known {
			return nil, fmt.Errorf("crypto/tls has no group %q", name)
		}
		config.CurvePreferences = append(config.CurvePreferences, group)
	}
	config.NextProtos = list(o.alpn)
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		// An anchor of a kind that Go doesn't know, such as ML-DSA, is left out, as any Go program leaves it out.
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no trust anchor that Go can read", o.ca)
		}
		config.RootCAs, config.ClientCAs = pool, pool
	}
	if o.requireClient {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func factsOf(state tls.ConnectionState) facts {
	f := facts{
		Version:    tls.VersionName(state.Version),
		Group:      state.CurveID.String(),
		Scheme:     scheme(state),
		Suite:      tls.CipherSuiteName(state.CipherSuite),
		ALPN:       state.NegotiatedProtocol,
		ServerName: state.ServerName,
		Resumed:    state.DidResume,
		HRR:        state.HelloRetryRequest,
	}
	if len(state.PeerCertificates) > 0 {
		f.Peer = state.PeerCertificates[0].Subject.String()
	}
	return f
}

// scheme is how the peer signed its CertificateVerify. crypto/tls keeps it in a field that only its own tests may name.
func scheme(state tls.ConnectionState) string {
	field := reflect.ValueOf(state).FieldByName("testingOnlyPeerSignatureAlgorithm")
	if !field.IsValid() {
		return "unknown to this version of Go"
	}
	if field.Uint() == 0 {
		return ""
	}
	return tls.SignatureScheme(field.Uint()).String()
}

func list(names string) []string {
	return strings.FieldsFunc(names, func(r rune) bool { return r == ',' })
}

func report(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "go-peer:", err)
		os.Exit(1)
	}
}
