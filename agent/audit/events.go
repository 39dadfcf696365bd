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

	CardSwapped    Event = "card.swapped"
	CardForeign    Event = "card.foreign"
	ReaderStuck    Event = "reader.stuck"
	OutboxDamaged  Event = "outbox.damaged"
	CommitInDoubt  Event = "commit.in_doubt"
	KeyLapsed      Event = "key.lapsed"
	OperatorSettle Event = "operator.settle"
	OperatorCall   Event = "operator.call"
	DaemonUnclean  Event = "daemon.unclean_stop"

	RegisterAsked   Event = "register.asked"
	RegisterRefused Event = "register.refused"
	RegisterDone    Event = "register.done"

	CommandTaken   Event = "command.taken"
	CommandFailed  Event = "command.failed"
	CommandDisable Event = "command.disable"
	CommandEnable  Event = "command.enable"
	CommandRefused Event = "command.refused"
	CommandNextKey Event = "command.next_key"
	CommandLedger  Event = "command.ledger_damaged"
	ReconDiffers   Event = "recon.differs"
	ReconLate      Event = "recon.late"
	ReconHost      Event = "recon.host_key"
	OperatorRecon  Event = "operator.reconcile"
	MirrorResync   Event = "mirror.resync_needed"
	OperatorLookup Event = "operator.lookup"
	OperatorResync Event = "operator.mirror_resync"
	MediaParked    Event = "media.parked"
	MediaTaken     Event = "media.taken"
	OperatorMedia  Event = "operator.media_drop"
)

// Severity says how soon a person should look.
type Severity string

// The severities. Info: for the history. Warning: at the next visit. Critical:
// money, a key or the service is at stake now.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Def is what a person reads about an event.
type Def struct {
	Event    Event
	Severity Severity
	Alarm    bool // stands in the heartbeat until it is over
	ZH, EN   string
	Next     string // what to do, for the technician
}

// Lookup finds what a person reads about e.
func Lookup(e Event) (Def, bool) {
	for _, d := range Catalogue {
		if d.Event == e {
			return d, true
		}
	}
	return Def{}, false
}

// Catalogue has every event once.
var Catalogue = []Def{
	{TopupRefused, Info, false, "平台拒绝本次充值", "the platform refused a top-up", "look the code up in the order's history"},
	{TopupConflict, Critical, true, "平台与卡的证据不一致", "the platform contradicts the card", "settle by hand: both sides' evidence is in the record"},
	{TopupUnknown, Critical, true, "平台不认识该订单", "the platform does not know an order it authorised", "ask the platform with the number of the top-up"},
	{TopupUnproven, Warning, true, "平台在无证据时结清订单", "the platform settled an order without evidence", "read the card at the next chance"},
	{TopupManual, Critical, true, "卡片无法证明写卡结果", "the card cannot tell what happened", "compare with the meter, then settle by hand"},
	{TopupOverdue, Warning, true, "平台七天未给出结论", "the platform owes a decision for seven days", "ask the platform"},
	{CardUnreadable, Info, false, "无法读卡", "a card could not be read", "clean the reader; if many cards, change it"},
	{ReportParked, Critical, true, "有结果上报被搁置", "a report is parked", "kioskctl queue ls; requeue it when its reason is gone"},
	{OutboxOrphan, Critical, true, "待上报消息找不到记录", "a message has no record", "keep the files for support"},
	{OutboxOld, Warning, true, "有结果超过一小时未送达", "a result is undelivered for over an hour", "check the network and the platform"},
	{JournalDamaged, Critical, true, "交易日志损坏", "the journal is damaged", "keep the files for support; affected top-ups are marked"},
	{PlatformAuth, Critical, true, "平台不接受令牌或密钥", "the platform does not accept token or key", "check key and clock"},
	{PlatformConfig, Critical, true, "平台不支持该接口", "the platform does not know an interface", "check the endpoints in the configuration"},
	{PlatformEvicted, Critical, true, "令牌被其他设备顶替", "another machine uses this appId", "give each kiosk an appId of its own"},
	{KeyStaged, Info, false, "收到新密钥，待验证", "a new key is stored, not proven yet", "nothing"},
	{KeyPromoted, Info, false, "新密钥已启用", "a new key is in use", "nothing"},
	{KeyRefused, Critical, true, "新密钥被平台拒绝", "the platform refused a new key", "compare the check values and provision again"},
	{KeystoreLocked, Critical, true, "密钥库无法打开", "the keystore cannot be opened", "kioskctl status says why; provision again"},
	{DiskLow, Critical, true, "存储空间不足", "little space is left", "free space"},
	{ClockUnsane, Critical, true, "时钟异常", "the clock cannot be right", "set the clock, check its battery"},
	{OperatorRequeue, Info, false, "人工重新排队", "an operator requeued a message", "nothing"},
	{OperatorProvided, Info, false, "技术员输入密钥", "a technician offered a key", "nothing"},
	{DaemonStart, Info, false, "程序启动", "the daemon started", "nothing"},
	{CardSwapped, Info, false, "充值途中换卡", "another card was put in during a top-up", "nothing"},
	{CardForeign, Info, false, "不支持的卡片", "a card this kiosk does not serve", "if many: compare the card profiles in the configuration"},
	{ReaderStuck, Critical, true, "读卡器无响应", "the reader no longer answers", "unplug it and plug it in again; if it comes back, change it"},
	{OutboxDamaged, Critical, true, "待上报消息损坏", "a stored message is damaged", "keep the files for support; the message is made again from its record"},
	{CommitInDoubt, Critical, false, "写盘结果不明", "nobody knows whether a commit reached the disk", "if it comes back, change the disk"},
	{KeyLapsed, Warning, true, "新密钥超时未验证", "a new key was not proven in time", "check the network, then provision again"},
	{OperatorCall, Info, false, "技术员查询平台", "a technician asked the platform by hand", "nothing"},
	{OperatorSettle, Warning, false, "人工结案", "an operator settled a top-up by hand", "nothing"},
	{RegisterAsked, Info, false, "申请注册", "registration was asked for", "nothing"},
	{RegisterRefused, Critical, true, "注册未成功", "the kiosk is not registered", "kioskctl status says why and what to do"},
	{RegisterDone, Info, false, "注册成功", "the kiosk is registered", "nothing"},
	{CommandTaken, Info, false, "收到远程命令", "a signed command was taken", "nothing"},
	{CommandFailed, Warning, false, "远程命令未完成", "a command did not end well", "the reason is beside it; give the command again if it is still wanted"},
	{CommandDisable, Warning, false, "远程命令暂停服务", "taken out of service by command", "nothing; the command enable puts it back"},
	{CommandEnable, Info, false, "远程命令恢复服务", "put back into service by command", "nothing"},
	{CommandRefused, Warning, true, "收到未通过验证的远程命令", "a command was not signed by a known key, or not for this kiosk", "ask the back office whether it was theirs; compare command.key in the configuration"},
	{CommandNextKey, Warning, true, "命令签名密钥即将更换，本机尚未配置", "the next signing key is announced and not configured here", "set command.next_key in the configuration"},
	{CommandLedger, Critical, true, "远程命令记录损坏", "the ledger of commands is damaged", "keep the files for support; commands are refused until then"},
	{ReconDiffers, Critical, true, "对账有差异", "the books of a day differ", "kioskctl reconcile show"},
	{ReconLate, Warning, true, "对账文件或平台应答迟到", "a day file is not delivered, or not answered", "kioskctl queue ls says why; then kioskctl reconcile run"},
	{ReconHost, Critical, true, "对账服务器身份不符", "the file server is not the one that is pinned", "ask whoever runs it; change known_hosts only on their word"},
	{OperatorRecon, Info, false, "人工重新对账", "an operator ran a day's reconciliation", "nothing"},
	{MediaParked, Warning, true, "有文件无法上传", "a file cannot be uploaded", "kioskctl media ls says why; requeue or drop it"},
	{MediaTaken, Info, false, "收到待上传文件", "a file was taken in for upload", "nothing"},
	{OperatorMedia, Info, false, "技术员放弃上传文件", "a technician gave up a file", "nothing"},
	{DaemonUnclean, Info, false, "上次未正常关机", "the last run did not end cleanly", "if often, check the power supply"},
	{MirrorResync, Warning, true, "基础数据镜像缺口超过一个月，需全量重新同步", "the mirror missed changes for more than a month: full resync needed", "kioskctl mirror resync; top-ups do not depend on it"},
	{OperatorLookup, Info, false, "技术员查询气户", "a technician looked an account up in the mirror", "nothing"},
	{OperatorResync, Info, false, "人工重建基础数据镜像", "a technician had the mirror dropped and pulled again", "nothing"},
}
