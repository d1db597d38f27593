package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/parley-chat/parley/apps/internal/campaign/power"
	"github.com/parley-chat/parley/apps/internal/config"
)

// cutPower runs the campaign of power cuts. A promise that is broken is an error.
func cutPower(ctx context.Context, p config.Power, stdout io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := power.Config{
		Store: p.Store, Setting: p.Setting, Cuts: p.Cuts, Seed: p.Seed, Survival: p.Survival, SyncTime: p.SyncTime,
		Clients: p.Clients, Journal: p.Journal, KafkaJars: p.KafkaJars, Program: self,
	}
	if !p.JSON {
		c.Say = func(line string) { _, _ = fmt.Fprintln(stdout, line) }
	}
	r, err := power.Run(ctx, c)
	if err != nil {
		return err
	}
	if p.JSON {
		err = json.NewEncoder(stdout).Encode(r)
	} else {
		err = r.Print(stdout)
	}
	return errors.Join(err, r.Err())
}
