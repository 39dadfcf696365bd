//go:build sim

package main

import (
	"encoding/json"
	"net/http"

	"vcckiosk/protocol/vcctest"
)

// control lets a test play the gas company from another process: it sells
// orders and reads all that is known of them. What the platform issued is in
// the answer too, as only a judge may see it.
func control(mux *http.ServeMux, p *vcctest.Platform) {
	remote(mux, p)
	mux.HandleFunc("GET /sim/books", func(w http.ResponseWriter, _ *http.Request) { encode(w, p.Books()) })
	mux.HandleFunc("GET /sim/judge", func(w http.ResponseWriter, _ *http.Request) {
		type issued struct {
			MAC2   string `json:"mac2"`
			Target []byte `json:"target"`
		}
		out := struct {
			Books  vcctest.Snapshot    `json:"books"`
			Issued map[string][]issued `json:"issued"` // by order, in the order of the books
		}{Books: p.Books(), Issued: map[string][]issued{}}
		for _, o := range out.Books.Orders {
			for _, i := range o.Issued {
				out.Issued[o.OrderNo] = append(out.Issued[o.OrderNo], issued{i.MAC2, i.Target})
			}
		}
		encode(w, out)
	})
	mux.HandleFunc("POST /sim/cards", posted(p.AddCard))
	mux.HandleFunc("POST /sim/orders", posted(p.AddOrder))
	mux.HandleFunc("POST /sim/lapses", posted(func(l vcctest.Lapses) error {
		p.SetLapses(l)
		p.ReleaseLate()
		return nil
	}))
}

func encode(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// posted hands a JSON body, the Go fields as they are, to do.
func posted[T any](do func(T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var v T
		err := json.NewDecoder(r.Body).Decode(&v)
		if err == nil {
			err = do(v)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}
