//go:build sim

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"vcckiosk/cardreader/simcard"
)

// cardFile keeps a memory card, and what its meter knows, between commands.
type cardFile struct {
	Content []byte `json:"content"` // 256 bytes
	Last    int    `json:"last"`    // count the meter took last
	Taken   uint64 `json:"taken"`   // in 0.01 m³
}

func readCard(path string) (cardFile, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		c, _ := newImage(1)
		img := c.Image()
		return cardFile{Content: img[:]}, nil
	}
	if err != nil {
		return cardFile{}, fmt.Errorf("read card: %w", err)
	}
	var f cardFile
	if err := json.Unmarshal(b, &f); err != nil || len(f.Content) != 256 {
		return cardFile{}, fmt.Errorf("read card %s: not a card", path)
	}
	return f, nil
}

func (f cardFile) card() *simcard.SLE4442 { return simcard.NewSLE4442([256]byte(f.Content), simPSC) }

func (f cardFile) write(path string, c *simcard.SLE4442) error {
	img := c.Image()
	f.Content = img[:]
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("write card: %w", err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("write card: %w", err)
	}
	return nil
}

func cardCommand() *cobra.Command {
	var addr, kind, path string
	c := &cobra.Command{
		Use: "card", Short: "Put a virtual card into a kiosk's simulated reader until interrupted", Args: cobra.NoArgs,
		Long: `Puts a card into a kiosk whose reader.driver is sim, and takes it out when interrupted. A
memory card is kept in a file between commands, so that the meter can take its gas.`,
		Example: "  vccsim card\n  vccsim card --kind memory --file card.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var card simcard.Card
			keep := func() error { return nil }
			switch kind {
			case "purse":
				card, _ = newPurse(1)
			case "memory":
				f, err := readCard(path)
				if err != nil {
					return err
				}
				m := f.card()
				card, keep = m, func() error { return f.write(path, m) }
			default:
				return fmt.Errorf("--kind %q: want purse or memory", kind)
			}
			plug, err := simcard.Dial(cmd.Context(), addr, card)
			if err != nil {
				return fmt.Errorf("insert card: %w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "card is in; interrupt to take it out")
			select {
			case <-cmd.Context().Done():
				plug.Remove()
			case <-plug.Done():
			}
			return keep()
		},
	}
	c.Flags().StringVar(&addr, "addr", "127.0.0.1:35963", "the reader's `address`")
	c.Flags().StringVar(&kind, "kind", "purse", "purse or memory")
	c.Flags().StringVar(&path, "file", "memory-card.json", "where a memory card is kept between commands")
	return c
}

func meterCommand() *cobra.Command {
	var path string
	var lax bool
	c := &cobra.Command{
		Use: "meter", Short: "Hold a kept memory card to the gas meter once", Args: cobra.NoArgs,
		Long: `Holds the card of a file to its gas meter: it takes the gas if the card's count is newer than
the last one it took.`,
		Example: "  vccsim meter --file card.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := readCard(path)
			if err != nil {
				return err
			}
			mode := simcard.Strict
			if lax {
				mode = simcard.Lax
			}
			m, card := simcard.NewMeter(mode, simcard.DefaultLayout()), f.card()
			m.SetLast(f.Last)
			v := m.Insert(card)
			f.Last, f.Taken = m.Last(), f.Taken+uint64(v.Volume)
			fmt.Fprintf(cmd.OutOrStdout(), "took %d.%02d m³, card's count %d, all taken %d.%02d m³\n",
				v.Volume/100, v.Volume%100, v.Count, f.Taken/100, f.Taken%100)
			return f.write(path, card)
		},
	}
	c.Flags().StringVar(&path, "file", "memory-card.json", "the card")
	c.Flags().BoolVar(&lax, "lax", false, "take gas whatever the count says")
	return c
}
