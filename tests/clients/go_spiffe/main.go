// Lives with a certificate that it gets over the SPIFFE Workload API, as a program with SPIFFE's
// own library does.
//
//	go_spiffe follow SOCKET             prints each set of certificates, as a line of JSON
//	go_spiffe bundles SOCKET            prints whom to trust, once
//	go_spiffe call SOCKET ADDR PEER     asks PEER, a SPIFFE ID, over mutual TLS, and prints the answer
//
// A certificate that is refused ends it with the reason.
package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// patience is how long the first certificate and an answer are waited for.
const patience = 30 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: go_spiffe follow|bundles SOCKET, or go_spiffe call SOCKET ADDR PEER")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+args[1]))
	if err != nil {
		return err
	}
	defer client.Close()
	switch {
	case args[0] == "follow" && len(args) == 2:
		return client.WatchX509Context(ctx, &follower{end: cancel})
	case args[0] == "bundles" && len(args) == 2:
		return bundles(ctx, client)
	case args[0] == "call" && len(args) == 4:
		return call(ctx, client, args[2], args[3])
	}
	return fmt.Errorf("no such command: %q", args)
}

type follower struct {
	end context.CancelFunc
}

type shown struct {
	ID, Serial, Hint string
	Chain            int
}

func (f *follower) OnX509ContextUpdate(update *workloadapi.X509Context) {
	all := []shown{}
	for _, svid := range update.SVIDs {
		// As a peer will.
		if _, _, err := x509svid.Verify(svid.Certificates, update.Bundles); err != nil {
			fmt.Fprintln(os.Stderr, err)
			f.end()
			return
		}
		leaf := svid.Certificates[0]
		all = append(all, shown{svid.ID.String(), leaf.SerialNumber.Text(16), svid.Hint, len(svid.Certificates)})
	}
	line, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func (f *follower) OnX509ContextWatchError(err error) {
	fmt.Fprintln(os.Stderr, err)
	f.end()
}

func bundles(ctx context.Context, client *workloadapi.Client) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	set, err := client.FetchX509Bundles(ctx)
	if err != nil {
		return err
	}
	for _, bundle := range set.Bundles() {
		all := []*x509.Certificate(bundle.X509Authorities())
		fmt.Printf("%s has %d roots\n", bundle.TrustDomain(), len(all))
	}
	return nil
}

func call(ctx context.Context, client *workloadapi.Client, addr, peer string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	id, err := spiffeid.FromString(peer)
	if err != nil {
		return err
	}
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClient(client))
	if err != nil {
		return err
	}
	defer source.Close()
	tls := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(id))
	transport := &http.Transport{TLSClientConfig: tls, DialContext: (&net.Dialer{}).DialContext}
	request, err := http.NewRequestWithContext(ctx, "GET", "https://"+addr+"/", nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	fmt.Printf("%d %s\n", answer.StatusCode, body)
	return nil
}
