package audit

// Event names something a person may have to hear of. Names are stable: they
// stand in logs, alarms and the heartbeat.
type Event string

// The events.
const (
	TopupRefused     Event = "topup.refused"
	TopupConflict    Event = "topup.conflict"
	TopupUnknown     Event = "topup.order_unknown"
	TopupUnproven    Event = "topup.settled_unproven"
	TopupManual      Event = "topup.card_cannot_tell"
	TopupOverdue     Event = "topup.awaiting_overdue"
	CardUnreadable   Event = "card.unreadable"
	ReportParked     Event = "report.parked"
	OutboxOrphan     Event = "outbox.orphan"
	OutboxOld        Event = "outbox.old"
	JournalDamaged   Event = "journal.damaged"
	PlatformAuth     Event = "platform.auth"
	PlatformConfig   Event = "platform.config"
	PlatformEvicted  Event = "platform.evicted"
	KeyStaged        Event = "key.staged"
	KeyPromoted      Event = "key.promoted"
	KeyRefused       Event = "key.refused"
	KeystoreLocked   Event = "keystore.locked"
	DiskLow          Event = "disk.low"
	ClockUnsane      Event = "clock.unsane"
	OperatorRequeue  Event = "operator.requeue"
	OperatorProvided Event = "operator.provision"
	DaemonStart      Event = "daemon.start"
)

// Def is what a person reads about an event.
type Def struct {
	Event  Event
	Alarm  bool // stands in the heartbeat until it is over
	ZH, EN string
	Next   string // what to do, for the technician
}

// Catalogue has every event once.
var Catalogue = []Def{
	{TopupRefused, false, "平台拒绝本次充值", "the platform refused a top-up", "look the code up in the order's history"},
	{TopupConflict, true, "平台与卡的证据不一致", "the platform contradicts the card", "settle by hand: both sides' evidence is in the record"},
	{TopupUnknown, true, "平台不认识该订单", "the platform does not know an order it authorised", "ask the platform with the number of the top-up"},
	{TopupUnproven, true, "平台在无证据时结清订单", "the platform settled an order without evidence", "read the card at the next chance"},
	{TopupManual, true, "卡片无法证明写卡结果", "the card cannot tell what happened", "compare with the meter, then settle by hand"},
	{TopupOverdue, true, "平台七天未给出结论", "the platform owes a decision for seven days", "ask the platform"},
	{CardUnreadable, false, "无法读卡", "a card could not be read", "clean the reader; if many cards, change it"},
	{ReportParked, true, "有结果上报被搁置", "a report is parked", "kioskctl queue ls; requeue it when its reason is gone"},
	{OutboxOrphan, true, "待上报消息找不到记录", "a message has no record", "keep the files for support"},
	{OutboxOld, true, "有结果超过一小时未送达", "a result is undelivered for over an hour", "check the network and the platform"},
	{JournalDamaged, true, "交易日志损坏", "the journal is damaged", "keep the files for support; affected top-ups are marked"},
	{PlatformAuth, true, "平台不接受令牌或密钥", "the platform does not accept token or key", "check key and clock"},
	{PlatformConfig, true, "平台不支持该接口", "the platform does not know an interface", "check the endpoints in the configuration"},
	{PlatformEvicted, true, "令牌被其他设备顶替", "another machine uses this appId", "give each kiosk an appId of its own"},
	{KeyStaged, false, "收到新密钥，待验证", "a new key is stored, not proven yet", "nothing"},
	{KeyPromoted, false, "新密钥已启用", "a new key is in use", "nothing"},
	{KeyRefused, true, "新密钥被平台拒绝", "the platform refused a new key", "compare the check values and provision again"},
	{KeystoreLocked, true, "密钥库无法打开", "the keystore cannot be opened", "kioskctl status says why; provision again"},
	{DiskLow, true, "存储空间不足", "little space is left", "free space"},
	{ClockUnsane, true, "时钟异常", "the clock cannot be right", "set the clock, check its battery"},
	{OperatorRequeue, false, "人工重新排队", "an operator requeued a message", "nothing"},
	{OperatorProvided, false, "技术员输入密钥", "a technician offered a key", "nothing"},
	{DaemonStart, false, "程序启动", "the daemon started", "nothing"},
}
