// Receives with the OpenTelemetry collector's fluentforward receiver: otel PORT prints the port when it listens, and a line
// of JSON, [tag, record], for each event.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/fluentforwardreceiver"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

func show(_ context.Context, logs plog.Logs) error {
	out := json.NewEncoder(os.Stdout)
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				fields := record.Attributes().AsRaw()
				tag := fields["fluent.tag"]
				delete(fields, "fluent.tag")
				if body := record.Body().AsRaw(); body != nil {
					fields["message"] = body
				}
				if err := out.Encode([]any{tag, fields}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func run(port string) error {
	factory := fluentforwardreceiver.NewFactory()
	config := factory.CreateDefaultConfig().(*fluentforwardreceiver.Config)
	config.ListenAddress = "127.0.0.1:" + port
	sink, err := consumer.NewLogs(show)
	if err != nil {
		return err
	}
	ctx := context.Background()
	receiver, err := factory.CreateLogs(ctx, receivertest.NewNopSettings(factory.Type()), config, sink)
	if err != nil {
		return err
	}
	if err := receiver.Start(ctx, componenttest.NewNopHost()); err != nil {
		return err
	}
	fmt.Println(port)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
	return receiver.Shutdown(ctx)
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
