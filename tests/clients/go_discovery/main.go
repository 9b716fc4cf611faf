// Prints, as one line of JSON for each change, the targets that Prometheus's own discovery of
// Consul finds. The file that it is given holds what stands under consul_sd_configs in
// prometheus.yml; it ends when its standard input does.
//
//	go_discovery FILE
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/consul"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"gopkg.in/yaml.v2"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go_discovery FILE")
		os.Exit(2)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := follow(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func follow(ctx context.Context, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	config := &consul.SDConfig{}
	if err := yaml.UnmarshalStrict(text, config); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	logger := log.NewLogfmtLogger(os.Stderr)
	mechanisms, err := discovery.CreateAndRegisterSDMetrics(registry)
	if err != nil {
		return err
	}
	manager := discovery.NewManager(ctx, logger, registry, mechanisms)
	if manager == nil {
		return fmt.Errorf("no discovery manager")
	}
	if err := manager.ApplyConfig(map[string]discovery.Configs{"mesh": {config}}); err != nil {
		return err
	}
	go func() { _ = manager.Run() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case found := <-manager.SyncCh():
			line, err := json.Marshal(targets(found["mesh"]))
			if err != nil {
				return err
			}
			fmt.Println(string(line))
		}
	}
}

// targets merges the labels of a group into those of its targets, as Prometheus does.
func targets(groups []*targetgroup.Group) []map[string]string {
	all := []map[string]string{}
	for _, group := range groups {
		for _, target := range group.Targets {
			labels := map[string]string{}
			for name, value := range group.Labels {
				labels[string(name)] = string(value)
			}
			for name, value := range target {
				labels[string(name)] = string(value)
			}
			all = append(all, labels)
		}
	}
	return all
}
