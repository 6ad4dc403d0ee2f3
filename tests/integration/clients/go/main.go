// Sends COUNT events with fluent-logger-golang: client CONFIG COUNT TAG (CONFIG: fluent.Config as JSON).
// Ends with 0 only if every event was delivered (with RequestAck: acknowledged).
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/fluent/fluent-logger-golang/fluent"
)

func run(config string, number string, tag string) error {
	var settings fluent.Config
	if err := json.Unmarshal([]byte(config), &settings); err != nil {
		return err
	}
	count, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	client, err := fluent.New(settings)
	if err != nil {
		return err
	}
	for i := 0; i < count; i++ {
		record := map[string]interface{}{
			"i": i, "text": "snow ☃", "nested": map[string]interface{}{"list": []interface{}{1, 2.5, nil}},
		}
		if err := client.Post(tag, record); err != nil {
			return err
		}
	}
	return client.Close()
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
