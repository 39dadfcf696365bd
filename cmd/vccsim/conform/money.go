package conform

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// TestCard is the card and the orders that cases about money may use. Nothing
// is written to a card: its content is what this file says.
type TestCard struct {
	Card   CardFile    `toml:"card"`
	Orders []TestOrder `toml:"order"`
}

// CardFile describes a test card as the platform's books have it.
type CardFile struct {
	Kind string `toml:"kind"` // memory (default) or purse
	No   string `toml:"no"`
	Type string `toml:"type"` // cardType; default SLE4442 or CPU
	// Of a memory card: its content in hex, and where its numbers are.
	Data  string `toml:"data"`
	Count []int  `toml:"count"` // offset, length of the purchase count
	Gas   []int  `toml:"gas"`   // of the gas the meter has not taken
	// Of a purse: the card's load key, 32 hex digits, and its state.
	LoadKey   string `toml:"load_key"`
	KeyIndex  int    `toml:"key_index"`
	Balance   int64  `toml:"balance"`
	OnlineSeq int    `toml:"online_seq"`
	Terminal  string `toml:"terminal"` // terminalNo of the tests, 12 hex digits; default C0F0C0F0C0F0
}

// TestOrder is a paid order for the test card.
type TestOrder struct {
	No     string `toml:"no"`
	Amount int64  `toml:"amount"` // fen
	Gas    int64  `toml:"gas"`    // 0.01 m³
}

// ReadTestCard reads the file. It can hold a card's key: nobody else may read
// it then.
func ReadTestCard(path string) (*TestCard, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read test card: %w", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read test card: %w", err)
	}
	var c TestCard
	if err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&c); err != nil {
		return nil, fmt.Errorf("read test card %s: %w", path, err)
	}
	if c.Card.LoadKey != "" && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read test card: %s has a key and mode %04o, others may read it; run chmod 0600 on it", path, st.Mode().Perm())
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("read test card %s: %w", path, err)
	}
	return &c, nil
}

func (c *TestCard) check() error {
	k := &c.Card
	if k.Kind == "" {
		k.Kind = "memory"
	}
	if k.Terminal == "" {
		k.Terminal = "C0F0C0F0C0F0"
	}
	switch k.Kind {
	case "memory":
		if k.Type == "" {
			k.Type = "SLE4442"
		}
		b, err := hex.DecodeString(k.Data)
		if err != nil || len(b) == 0 {
			return errors.New("card.data: want the card's content in hex")
		}
		for _, f := range [][]int{k.Count, k.Gas} {
			if len(f) != 2 || f[0] < 0 || f[1] < 1 || f[1] > 4 || f[0] > len(b)-f[1] {
				return errors.New("card.count and card.gas: want offset and length inside the content")
			}
		}
	case "purse":
		if k.Type == "" {
			k.Type = "CPU"
		}
		if b, err := hex.DecodeString(k.LoadKey); err != nil || len(b) != 16 {
			return errors.New("card.load_key: want 32 hex digits")
		}
	default:
		return fmt.Errorf("card.kind %q: want memory or purse", k.Kind)
	}
	if b, err := hex.DecodeString(k.Terminal); err != nil || len(b) != 6 || k.No == "" {
		return errors.New("card.no is missing, or card.terminal is not 12 hex digits")
	}
	for _, o := range c.Orders {
		if o.No == "" || o.Amount <= 0 || o.Gas < 0 {
			return errors.New("order: no, amount and gas are needed")
		}
	}
	return nil
}

// bench is the test card on the table: its content as the cases have left it.
type bench struct {
	*TestCard
	content []byte // memory
	seq     int    // purse: online sequence
	used    int    // orders
}

func newBench(c *TestCard) *bench {
	if c == nil {
		return nil
	}
	b := &bench{TestCard: c, seq: c.Card.OnlineSeq}
	b.content, _ = hex.DecodeString(c.Card.Data) // checked
	return b
}

func (b *bench) number(f []int) (n int) {
	for _, x := range b.content[f[0] : f[0]+f[1]] {
		n = n<<8 | int(x)
	}
	return n
}

// take gives a case its orders.
func (b *bench) take(n int) []TestOrder {
	if b.used+n > len(b.Orders) {
		return nil
	}
	b.used += n
	return b.Orders[b.used-n : b.used]
}

// load takes an authorised image onto the card and lets a meter take the gas.
func (b *bench) load(a answer) {
	b.content = written(b.content, a)
	clear(b.content[b.Card.Gas[0] : b.Card.Gas[0]+b.Card.Gas[1]])
}

// written is the content an authorisation leads to.
func written(before []byte, a answer) []byte {
	var in struct {
		Writes []struct {
			Offset int    `json:"offset"`
			Data   string `json:"data"`
		} `json:"writes"`
	}
	after := bytes.Clone(before)
	if json.Unmarshal(a.object["image"], &in) != nil {
		return after
	}
	for _, w := range in.Writes {
		if data, err := hex.DecodeString(w.Data); err == nil && w.Offset >= 0 && w.Offset <= len(after) {
			copy(after[w.Offset:], data)
		}
	}
	return after
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
